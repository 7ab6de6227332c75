"""The page of `dfqonnx frontier`: loss over bytes and over speed, and a table to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.report.frontier_data import Frontier, FrontierPoint
from dfqonnx.report.html import svg
from dfqonnx.report.html.chart_set import NO_CHARTS, has_matplotlib
from dfqonnx.report.html.page import render_template

DECADE = 10.0  # losses further apart stand on a logarithmic axis
PAGE, DATA = "frontier.html", "frontier.json"


def write_frontier(frontier: Frontier, folder: Path) -> None:
    """Write page and JSON into a folder, each complete or not at all.

    Raises:
        EnvironmentProblem: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((PAGE, render_frontier(frontier)), (DATA, frontier.to_json())):
        with atomic_file(folder / name) as place:
            place.write_text(text, encoding="utf-8")


def render_frontier(frontier: Frontier) -> str:
    """Return the page."""
    sizes = speeds = ""
    if has_matplotlib():
        points = frontier.points
        with svg.chart_settings():
            sizes = _draw(
                points,
                [point.forecast.bytes / frontier.bytes for point in points],
                labels=("size over the float file's", frontier.unit),
            )
            timed = [point for point in points if point.forecast.speed is not None]
            if timed:
                speeds = _draw(
                    timed,
                    [point.forecast.speed or 0.0 for point in timed],
                    labels=("times the float speed", frontier.unit),
                    is_joined=False,
                )
    return render_template(
        "frontier.html",
        frontier=frontier,
        columns=_columns(frontier.points),
        beaten=[_beaten_by(frontier, point) for point in frontier.points],
        sizes=sizes,
        speeds=speeds,
        no_charts="" if sizes else NO_CHARTS,
    )


def _columns(points: Sequence[FrontierPoint]) -> dict[str, list[str]]:
    """Return the cells of the columns that not every frontier has, by heading."""
    measures = dict.fromkeys(point.measure for point in points if point.measure)
    cells = {
        "drop foretold": [_number(point.forecast.drop) for point in points],
        "drop estimated": [_number(point.estimated_drop) for point in points],
        f"measured, {', '.join(measures)}": [_number(point.measured) for point in points],
        "speed": [_number(point.forecast.speed, "x") for point in points],
    }
    return {heading: column for heading, column in cells.items() if any(column)}


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.2f}{unit}"


def _beaten_by(frontier: Frontier, point: FrontierPoint) -> str:
    """Return the numbers of the students that are no larger and lose less."""
    return ", ".join(
        str(number) for number, other in enumerate(frontier.points, start=1) if other.beats(point)
    )


def _draw(
    points: Sequence[FrontierPoint],
    places: Sequence[float],
    *,
    labels: tuple[str, str],
    is_joined: bool = True,
) -> str:
    """Draw what each student loses; uniform ones are squares, mixed ones dots, joined or not."""
    fig = svg.new_figure(420, 260)
    ax = svg.add_axes(fig, 56, 40, right=14, top=14)
    losses = [point.loss for point in points]
    mixed = sorted((a, b) for a, b, p in zip(places, losses, points, strict=True) if p.is_mixed)
    uniform = [(a, b) for a, b, p in zip(places, losses, points, strict=True) if not p.is_mixed]
    if mixed:
        ax.plot(
            *zip(*mixed, strict=True),
            "o-" if is_joined else "o",
            color=svg.FIRST,
            markersize=5,
            linewidth=1.4,
        )
    if uniform:
        ax.plot(*zip(*uniform, strict=True), "s", color=svg.SECOND, markersize=8)
    for number, (a, b) in enumerate(zip(places, losses, strict=True), start=1):
        ax.annotate(f"{number}", (a, b), xytext=(0, 6), textcoords="offset points", ha="center")
    if min(losses) > 0 and max(losses) >= DECADE * min(losses):
        ax.set_yscale("log")
        ax.yaxis.set_minor_formatter("")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.margins(x=0.08, y=0.16)
    ax.set_xlabel(labels[0], loc="right")
    ax.set_ylabel(labels[1])
    return svg.to_svg(fig, f"{labels[1]} over {labels[0]}")
