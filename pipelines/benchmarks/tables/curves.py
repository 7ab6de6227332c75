"""Drop against seconds: what a longer `--budget` buys, as tables and as charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from tables.figures import figure, line, mean
from tables.runs import DASH, Row, Run

UNTRAINED = "ptq"  # the recipe at which every curve begins


@dataclass(frozen=True)
class Point:
    """A place on a curve of drop against seconds."""

    seconds: float
    row: Row
    runs: list[Run]
    drop: float


def curves(grouped: Mapping[Row, list[Run]]) -> Iterator[str]:
    """Yield drop against seconds, for every network and width that was given budgets."""
    budgets = sorted(
        {_plain(row) for row in grouped if row.budget != DASH}, key=lambda row: row.order
    )
    if budgets:
        yield "\n## Drop against seconds\n"
    for wanted in budgets:
        points = find_points(grouped, wanted)
        yield f"\n### {wanted.model} at {wanted.bits}\n\n"
        yield line(("seconds", "recipe", "budget", "steps", "drop", "runs"))
        yield line(["---"] * 6)
        for point in points:
            row, steps = point.row, figure((run.steps for run in point.runs), ",.0f")
            cells = (f"{point.seconds:,.0f}", row.recipe, row.budget, steps, f"{point.drop:.2f}")
            yield line((*cells, str(len(point.runs))))
        seconds = ", ".join(f"{point.seconds:.0f}" for point in points)
        drops = ", ".join(f"{point.drop:.2f}" for point in points)
        yield f'\n```mermaid\nxychart-beta\n    x-axis "seconds" [{seconds}]\n'
        yield f'    y-axis "drop, points"\n    line [{drops}]\n```\n'


def find_points(grouped: Mapping[Row, list[Run]], wanted: Row) -> list[Point]:
    """Return the rows that differ from `wanted` in nothing but budget, and the untrained one.

    The shortest comes first; rows whose drop or seconds nobody measured are none.
    """
    points = [
        Point(seconds, row, runs, drop)
        for row, runs in grouped.items()
        if row.recipe in {wanted.recipe, UNTRAINED}
        and replace(_plain(row), recipe=wanted.recipe) == wanted
        and (drop := mean(run.drop for run in runs)) is not None
        and (seconds := mean(run.seconds for run in runs))
    ]
    return sorted(points, key=lambda point: point.seconds)


def _plain(row: Row) -> Row:
    return replace(row, budget=DASH)
