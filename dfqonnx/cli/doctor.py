"""`dfqonnx doctor`: is this machine fit."""

from __future__ import annotations

import dataclasses

from dfqonnx.cli import options as o
from dfqonnx.cli.show import say_json, stdout


def doctor(as_json: o.AsJson = False) -> int:
    """Check packages, ONNX Runtime, CUDA, processor, memory, disk. 4 if a run cannot work."""
    from dfqonnx.workflows.doctor import examine

    findings = examine()
    fit = all(finding.ok for finding in findings)
    if as_json:
        say_json({"fit": fit, "findings": [dataclasses.asdict(f) for f in findings]})
        return 0 if fit else 4
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = "[green]ok[/green]" if finding.ok else "[bold red]NO[/bold red]"
        grid.add_row(mark, finding.what, Text(finding.value))
        if finding.advice:
            grid.add_row("", "", Text(finding.advice, style="yellow"))
    console = stdout()
    console.print(grid)
    console.print("Fit to run." if fit else "Not fit to run: see the lines marked NO.")
    return 0 if fit else 4
