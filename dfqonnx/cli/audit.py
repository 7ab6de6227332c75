"""`dfqonnx audit`: what the runtime does with the nodes of a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_table, print_text
from dfqonnx.errors import UsageError

if TYPE_CHECKING:
    from dfqonnx.runtime.kernel_audit import Audit


def audit(
    files: Annotated[list[Path] | None, typer.Argument(help="The ONNX files.")] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="Another ONNX file.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 1 if a Conv, Gemm or MatMul runs in float.")
    ] = False,
    provider: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="The provider that loads the files.")
    ] = "cpu",
    as_json: o.AsJson = False,
) -> int:
    """Show which nodes ONNX Runtime runs on integers, which it runs in float, and why."""
    from dfqonnx.runtime.session import require_runtime
    from dfqonnx.workflows.preflight import check_model

    paths = [*(files or ()), *([] if model is None else [model])]
    if not paths:
        raise UsageError("the model is missing. Give it like this: dfqonnx audit MODEL.onnx")
    for path in paths:
        check_model(path, what="model")
    require_runtime()
    from dfqonnx.runtime.kernel_audit import audit_kernels

    found = {str(path): audit_kernels(path, provider=provider) for path in paths}
    if as_json:
        plain = [{"file": path, **dataclasses.asdict(one)} for path, one in found.items()]
        print_json(plain[0] if len(paths) == 1 else plain)
    else:
        for path, one in found.items():
            if len(found) > 1:
                print_text(f"{path}:")
            _show(one)
    return 1 if strict and any(one.float_weighted for one in found.values()) else 0


def _show(found: Audit) -> None:
    total = sum(found.integer_nodes.values())
    print_text(f"{total} nodes run on integers, and {len(found.float_nodes)} in float.")
    for op, count in found.integer_nodes.items():
        print_text(f"  {op} {count}")
    if found.conversions:
        counts = ", ".join(f"{op} {count}" for op, count in found.conversions.items())
        print_text(f"Conversions between the two: {counts}.")
    if found.float_nodes:
        print_table(
            ["float node", "operator", "reason"],
            [(node.name, node.op, node.reason) for node in found.float_nodes],
            texts=3,
        )
