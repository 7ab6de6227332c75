"""`dfqonnx convert`: a quantized file for another target."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_text


def convert(
    file: o.ModelFile = None,
    model: o.Model = None,
    target: Annotated[
        str,
        typer.Option(help="Runtime to write it for; [bold]dfqonnx targets[/bold] lists them."),
    ] = o.DEFAULT_TARGET,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file; by default NAME-TARGET.onnx beside it."),
    ] = None,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> int:
    """Write a quantized file for another target, where it computes exactly the same."""
    from dfqonnx.targets.profile import TARGETS

    path = o.choose_model(file, model, "convert STUDENT.onnx --target portable")
    TARGETS[target]  # an unknown name is refused before anything is loaded
    from dfqonnx.workflows.convert import convert as convert_file

    place = path.with_name(f"{path.stem}-{target}.onnx") if out is None else out
    found = convert_file(path, target, place)
    if as_json:
        print_json({**dataclasses.asdict(found), "out": str(found.out)})
    elif not quiet:
        for note in found.notes:
            print_text(f"Note: {note}")
        print_text(
            f"Wrote {found.out} for {target} ({found.bytes / 1e3:,.0f} kB), whose outputs are equal"
            f" to those of {path}, bit for bit."
        )
    return 0
