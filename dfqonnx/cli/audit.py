"""`dfqonnx audit`: what the runtime really does with a file."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import say_json, stdout

if TYPE_CHECKING:
    from dfqonnx.validate.audit import Audit


def audit(
    model: o.Model,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 1 if a Conv, Gemm or MatMul is in float.")
    ] = False,
    provider: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it is loaded.")] = "cpu",
    as_json: o.AsJson = False,
) -> int:
    """Show which nodes ONNX Runtime runs on integers, which stay in float, and why."""
    from dfqonnx.preflight import check_file
    from dfqonnx.validate.installed import require_runtime

    check_file(model, what="--model")
    require_runtime()
    from dfqonnx.validate.audit import audit as audit_file

    found = audit_file(model, provider=provider)
    if as_json:
        say_json(dataclasses.asdict(found))
    else:
        _show(found)
    return 1 if strict and found.float_weighted else 0


def _show(found: Audit) -> None:
    console = stdout()
    total = sum(found.integer_nodes.values())
    console.print(f"{total} nodes on integers, {len(found.float_nodes)} in float.")
    for op, count in found.integer_nodes.items():
        console.print(f"  {op} {count}")
    if found.conversions:
        counts = ", ".join(f"{op} {count}" for op, count in found.conversions.items())
        console.print(f"Conversions between the two: {counts}.")
    if not found.float_nodes:
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("float node", "operator", "why", box=box.SIMPLE, pad_edge=False)
    for node in found.float_nodes:
        table.add_row(Text(node.name), Text(node.op), Text(node.reason))
    console.print(table)
