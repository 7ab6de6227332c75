"""The chart of a front: quality over bytes or over speed, one point a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dfqonnx.report.html import svg

MOST_LABELS = 12  # of points; where there are more, only those on the front have one


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """A task: its number in the table, what it costs, and how good it is with its interval."""

    label: str
    cost: float
    value: float
    low: float | None
    high: float | None
    is_on_front: bool


def draw_front(
    points: Sequence[FrontPoint], *, cost: str, quality: str, less_is_better: bool
) -> str:
    """Draw the tasks of one model; those on the front are filled, and joined by a line of steps.

    `cost` labels the lower axis, `less_is_better` says so of the bytes, not of the speed.
    """
    fig = svg.new_figure(440, 280)
    ax = svg.add_axes(fig, 56, 38, right=16, top=16)
    ax.grid(axis="x", color=svg.RULE, linewidth=0.5)
    for point in points:
        low = point.value if point.low is None else point.low
        high = point.value if point.high is None else point.high
        color = svg.FIRST if point.is_on_front else svg.MUTED
        ax.plot([point.cost] * 2, [low, high], color=color, linewidth=1.0, alpha=0.6)
        ax.plot(
            [point.cost], [point.value], "o", color=color, markersize=6,
            markerfacecolor=color if point.is_on_front else "none",
        )  # fmt: skip
        if point.is_on_front or len(points) <= MOST_LABELS:
            ax.annotate(
                point.label, (point.cost, point.value), xytext=(6, 5), textcoords="offset points",
                fontsize=9, color=svg.INK if point.is_on_front else svg.MUTED,
            )  # fmt: skip
    front = sorted((p.cost, p.value) for p in points if p.is_on_front)
    where: Literal["post", "pre"] = "post" if less_is_better else "pre"
    ax.step(
        [cost for cost, _ in front], [value for _, value in front], where=where,
        color=svg.FIRST, linewidth=1.2, alpha=0.7,
    )  # fmt: skip
    ax.margins(x=0.1, y=0.14)
    ax.set_xlabel(cost, loc="right")
    ax.set_ylabel(quality)
    return svg.to_svg(fig, f"{quality} over {cost}, one point a task")
