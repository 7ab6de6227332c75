"""The page of `dfqonnx compare`: one sortable table, one chart of size against closeness."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dfqonnx.core.atomic_write import atomic_file, check_file_out
from dfqonnx.errors import UsageError
from dfqonnx.report.comparison import HEADINGS, ComparisonTable, standings
from dfqonnx.report.html import charts
from dfqonnx.report.html import svg as drawing
from dfqonnx.report.html.page import NO_CHARTS, fill

SUFFIXES = {".html", ".htm"}


def render_comparison(league: ComparisonTable) -> str:
    """Return the page."""
    lines = standings(league)
    return fill(
        "league.html",
        league=league,
        lines=lines,
        headings=[name for name in HEADINGS if any(line.cells[name] for line in lines)],
        chart=_chart(league),
        able=importlib.util.find_spec("matplotlib") is not None,
        no_charts=NO_CHARTS,
    )


def check_page(path: Path) -> None:
    """Refuse a page that could not be written at the end, or whose name is that of another thing.

    Raises:
        UsageError: its name does not end with .html, it is a folder, or lies below a file.
        EnvironmentProblem: the nearest folder above it is not writable.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {path}: is not the name of a page; end it with .html")
    check_file_out(path)


def write_page(league: ComparisonTable, path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    text = render_comparison(league)
    with atomic_file(path) as place:
        place.write_text(text, encoding="utf-8")


def _chart(league: ComparisonTable) -> str:
    """Draw every student's size against its accuracy, or its agreement without labels."""
    if importlib.util.find_spec("matplotlib") is None:
        return ""
    from matplotlib import rc_context

    points = []
    for number, entry in enumerate(league.entries, 1):
        report = entry.report
        if report is None or report.size_ratio is None:
            continue
        share = report.student.top1
        if share is None and report.agreement.synthetic is not None:
            share = charts.times100(report.agreement.synthetic)
        if share is not None:
            points.append(charts.Point(str(number), report.size_ratio, share))
    if not points:
        return ""
    with rc_context(drawing.settings()):  # type: ignore[arg-type]
        return charts.scatter(points)
