"""`report.md`: the report for a reader, a pull request or a build's summary page."""

from __future__ import annotations

from dfqonnx.report.lines import headline, lines, ungated
from dfqonnx.report.model import Report

_MARK = {True: "holds", False: "FAILS", None: "inconclusive"}


def markdown(report: Report) -> str:
    """Return the whole page."""
    return "\n\n".join(filter(None, [*_head(report), _gates(report), _floats(report)])) + "\n"


def _head(report: Report) -> list[str]:
    rows = [f"| {what} | {_cell(value)} |" for what, value in lines(report)]
    warnings = "\n".join(f"- {warning}" for warning in report.warnings)
    return [
        f"# {report.student.path}",
        f"**{headline(report)}**",
        ungated(report),
        f"Made from `{report.teacher.path}`.",
        "\n".join(["| | |", "| --- | --- |", *rows]) if rows else "",
        f"## Warnings\n\n{warnings}" if warnings else "",
    ]


def _gates(report: Report) -> str:
    if not report.gates:
        return ""
    rows = [f"| {_cell(g.rule)} | {_cell(g.value)} | {_MARK[g.holds]} |" for g in report.gates]
    return "\n".join(["## Gates", "", "| rule | found | |", "| --- | --- | --- |", *rows])


def _floats(report: Report) -> str:
    if report.audit is None or not report.audit.float_nodes:
        return ""
    rows = [
        f"| `{_cell(node.name)}` | {node.op} | {_cell(node.reason)} |"
        for node in report.audit.float_nodes
    ]
    return "\n".join(
        ["## Nodes in float", "", "| node | operator | why |", "| --- | --- | --- |", *rows]
    )


def _cell(text: str) -> str:
    """A bar or a line break would end the cell."""
    return text.replace("|", "\\|").replace("\n", " ")
