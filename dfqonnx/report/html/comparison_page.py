"""The page of `dfqonnx compare`: one sortable table, and one chart of closeness over size."""

from __future__ import annotations

from pathlib import Path

from dfqonnx.core.atomic_write import atomic_file, check_file_out
from dfqonnx.errors import UsageError
from dfqonnx.report.comparison import ComparisonTable
from dfqonnx.report.html.chart_set import NO_CHARTS, has_matplotlib
from dfqonnx.report.html.charts import ComparisonPoint, draw_comparison
from dfqonnx.report.html.page import render_template
from dfqonnx.report.html.svg import chart_settings
from dfqonnx.report.number_format import to_percent

SUFFIXES = {".html", ".htm"}


def render_comparison(table: ComparisonTable) -> str:
    """Return the page."""
    no_charts = "" if has_matplotlib() else NO_CHARTS
    chart = _draw_chart(table)
    return render_template("comparison.html", table=table, chart=chart, no_charts=no_charts)


def check_page(path: Path) -> None:
    """Refuse a path to which no page could be written at the end.

    Raises:
        UsageError: its name does not end with .html, it is a folder, or lies below a file.
        EnvironmentProblem: the nearest folder above it is not writable.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {path}: not the name of a page; end it with .html")
    check_file_out(path)


def write_page(table: ComparisonTable, path: Path) -> None:
    """Write the page to `path`, complete or not at all.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    text = render_comparison(table)
    with atomic_file(path) as place:
        place.write_text(text, encoding="utf-8")


def _draw_chart(table: ComparisonTable) -> str:
    """Draw every student's accuracy over its size; without labels its agreement."""
    points = []
    for number, student in enumerate(table.students, 1):
        report = student.report
        if report is None or report.size_ratio is None:
            continue
        share = report.student.top1
        if share is None and report.agreement.best_known is not None:
            share = to_percent(report.agreement.best_known)
        if share is not None:
            points.append(ComparisonPoint(str(number), report.size_ratio, share))
    if not points or not has_matplotlib():
        return ""
    with chart_settings():
        return draw_comparison(points)
