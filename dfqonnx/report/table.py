"""The table at the end of a run."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dfqonnx.report.lines import headline, lines, ungated
from dfqonnx.report.model import Report

_COLOUR = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def table(report: Report) -> RenderableType:
    """Return what rich prints: the headline, what was measured, and the gates."""
    facts = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for what, value in lines(report):
        facts.add_row(what, Text(value))
    for gate in report.gates:
        mark, style = _mark(gate.holds)
        facts.add_row(f"gate {mark}", Text(f"{gate.rule}: {gate.value}", style=style))
    parts: list[RenderableType] = [Text(headline(report), style=_COLOUR[report.verdict]), facts]
    words = ungated(report)
    return Group(*parts, Text(words, style="dim")) if words else Group(*parts)


def _mark(holds: bool | None) -> tuple[str, str]:
    if holds is None:
        return "inconclusive", "yellow"
    return ("holds", "") if holds else ("FAILS", "red")
