"""`dfqonnx doctor`: is this machine ready for a run."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dfqonnx.cli import options as o
from dfqonnx.cli.show import print_json, print_layout, print_text

Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="Only what nothing works without, for health checks of containers."
    ),
]


def doctor(quick: Quick = False, as_json: o.AsJson = False) -> int:
    """Check packages, ONNX Runtime, CUDA, processor, memory and disk; ends with 4 on a problem.

    An install without PyTorch is none: it validates, audits and compares.
    """
    from dfqonnx.workflows.doctor import examine

    findings = examine(quick=quick)
    is_ready = all(finding.ok for finding in findings)
    quantizes = is_ready and all(finding.quantizes for finding in findings)
    if as_json:
        found = [dataclasses.asdict(finding) for finding in findings]
        print_json({"ready": is_ready, "quantizes": quantizes, "findings": found})
        return 0 if is_ready else 4
    grid = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("NO", style="bold red")
        if not finding.quantizes:
            mark = Text("--", style="yellow")
        grid.add_row(mark, finding.name, Text(finding.value))
        if finding.advice:
            grid.add_row("", "", Text(finding.advice, style="yellow"))
    print_layout(grid)
    print_text(_conclude(is_ready=is_ready, quantizes=quantizes))
    return 0 if is_ready else 4


def _conclude(*, is_ready: bool, quantizes: bool) -> str:
    if quantizes:
        return "This machine is ready for a run."
    if is_ready:
        return (
            "This machine is ready to validate, audit and compare; the lines marked -- say what a"
            " run needs."
        )
    return "This machine is not ready for a run: the lines marked NO say why."
