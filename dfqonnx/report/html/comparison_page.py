"""The page of `dfqonnx compare`: one sortable table, and one chart of a column over size."""

from __future__ import annotations

from pathlib import Path

from dfqonnx.core.atomic_write import atomic_file, check_file_out
from dfqonnx.errors import UsageError
from dfqonnx.report.best_student import describe_best, known_interval
from dfqonnx.report.comparison import ComparisonTable
from dfqonnx.report.html.chart_set import NO_CHARTS, has_matplotlib
from dfqonnx.report.html.charts import ComparisonPoint, draw_comparison
from dfqonnx.report.html.page import render_template
from dfqonnx.report.html.svg import chart_settings

SUFFIXES = {".html", ".htm"}
UNITS = {"top-1": "%", "agreement": "%", "SQNR": "dB"}


def render_comparison(table: ComparisonTable) -> str:
    """Return the page."""
    no_charts = "" if has_matplotlib() else NO_CHARTS
    chart = _draw_chart(table)
    best = tuple(describe_best(table))
    return render_template(
        "comparison.html", table=table, chart=chart, no_charts=no_charts, best=best
    )


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
    """Draw the column that says most over the size, of the float model and of every student."""
    column = table.charted
    if column is None or not has_matplotlib():
        return ""
    points = [
        ComparisonPoint(
            label=row.label,
            size_ratio=row.numbers["size"],
            value=row.numbers.get(column),
            interval=known_interval(table, row.label, column),
        )
        for row in table.rows
        if "size" in row.numbers and (row.label == "F" or column in row.numbers)
    ]
    if len(points) < 2:
        return ""
    unit = table.measures[column].unit if column in table.measures else UNITS[column]
    with chart_settings():
        return draw_comparison(points, unit=unit.strip())
