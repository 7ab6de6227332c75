"""`dfqonnx audit`: what the runtime really does with a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import say_json, stdout
from dfqonnx.errors import UsageError

if TYPE_CHECKING:
    from dfqonnx.runtime.kernel_audit import Audit


def audit(
    files: Annotated[list[Path] | None, typer.Argument(help="ONNX files.")] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="One more.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 1 if a Conv, Gemm or MatMul is in float.")
    ] = False,
    provider: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where it is loaded.")] = "cpu",
    as_json: o.AsJson = False,
) -> int:
    """Show which nodes ONNX Runtime runs on integers, which stay in float, and why."""
    from dfqonnx.runtime.session import require_runtime
    from dfqonnx.workflows.preflight import check_file

    paths = [*(files or ()), *([] if model is None else [model])]
    if not paths:
        raise UsageError("audit: which file? dfqonnx audit FILE.onnx, or --model FILE.onnx")
    for path in paths:
        check_file(path, what="--model")
    require_runtime()
    from dfqonnx.runtime.kernel_audit import audit_kernels as audit_file

    found = {str(path): audit_file(path, provider=provider) for path in paths}
    if as_json:
        plain = [{"file": path, **dataclasses.asdict(one)} for path, one in found.items()]
        say_json(plain[0] if len(paths) == 1 else plain)
    else:
        for path, one in found.items():
            if len(found) > 1:
                stdout().print(f"{path}:", markup=False)
            _show(one)
    return 1 if strict and any(one.float_weighted for one in found.values()) else 0


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
