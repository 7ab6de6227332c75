"""`sweep.html`: the fronts of every model, all tasks in one sortable table, and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dfqonnx.report.html.chart_set import has_matplotlib
from dfqonnx.report.html.front_chart import FrontPoint, draw_front
from dfqonnx.report.html.page import render_template
from dfqonnx.report.html.svg import chart_settings
from dfqonnx.report.since import Change
from dfqonnx.report.sweep_result import FINISHED, Cost, SweepResult, SweepRow

MOST_CHARTED = 50  # models; the table has all
NO_CHARTS = "Charts need matplotlib: pip install matplotlib, and run the same sweep again."
TONES = {"complete": "pass", "gate failed": "fail", "cancelled": "open"}


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """One model on the page: its tasks' measure, its two charts, and what lies on a front."""

    name: str
    quality: str
    by_bytes: str
    by_speed: str
    on_front: tuple[TaskLine, ...]


@dataclass(frozen=True, kw_only=True)
class TaskLine:
    """A task in a table: its number, the row, and its cells as texts with numbers to sort by."""

    number: int
    row: SweepRow
    tone: str
    quality: str
    loss: str
    kib: str
    size: str
    speed: str
    is_on_bytes_front: bool
    is_on_speed_front: bool


def render_sweep(result: SweepResult, changes: Sequence[Change] | None = None) -> str:
    """Return the page; `changes` since an earlier sweep are None where there is none."""
    lines = _list_lines(result)
    models = tuple(_section(result, model, lines) for model in result.models[:MOST_CHARTED])
    return render_template(
        "sweep.html",
        result=result,
        lines=lines,
        models=tuple(model for model in models if model.on_front),
        changes=changes,
        no_charts="" if has_matplotlib() else NO_CHARTS,
        left_out=max(0, len(result.models) - MOST_CHARTED),
    )


def _list_lines(result: SweepResult) -> tuple[TaskLine, ...]:
    fronts: dict[Cost, frozenset[str]] = {
        cost: frozenset().union(*(result.front(model, cost) for model in result.models))
        for cost in ("bytes", "speedup")
    }
    names = {model: result.quality_of(model) for model in result.models}
    return tuple(
        _line(number, row, names[row.model], fronts) for number, row in enumerate(result.rows, 1)
    )


def _line(
    number: int, row: SweepRow, quality: str | None, fronts: dict[Cost, frozenset[str]]
) -> TaskLine:
    found = None if quality is None else row.quality(quality)
    figures = row.figures

    def show(name: str, text: str) -> str:
        return text.format(figures[name]) if name in figures else ""

    return TaskLine(
        number=number,
        row=row,
        tone=TONES.get(row.status, "fail"),
        quality="" if found is None else f"{found.name} {found}",
        loss="" if found is None else f"{found.loss:.6g}",
        kib=f"{figures['bytes'] / 1024:,.1f}" if "bytes" in figures else "",
        size=show("size", "{:.3f}"),
        speed=show("speedup", "{:.2f}x"),
        is_on_bytes_front=row.task in fronts["bytes"],
        is_on_speed_front=row.task in fronts["speedup"],
    )


def _section(result: SweepResult, model: str, lines: Sequence[TaskLine]) -> ModelSection:
    own = [line for line in lines if line.row.model == model and line.row.status in FINISHED]
    quality = result.quality_of(model)
    on_front = tuple(line for line in own if line.is_on_bytes_front or line.is_on_speed_front)
    return ModelSection(
        name=model,
        quality=quality or "",
        by_bytes=_draw(own, quality, "bytes"),
        by_speed=_draw(own, quality, "speedup"),
        on_front=on_front,
    )


def _draw(lines: Sequence[TaskLine], name: str | None, cost: Cost) -> str:
    if name is None or not has_matplotlib():
        return ""
    points, unit = [], ""
    is_size = cost == "bytes"
    for line in lines:
        found = line.row.quality(name)
        if found is None or cost not in line.row.figures:
            continue
        unit = found.unit.strip()
        points.append(
            FrontPoint(
                label=str(line.number),
                cost=line.row.figures[cost] / (1024 if is_size else 1),
                value=found.value,
                low=found.low,
                high=found.high,
                is_on_front=line.is_on_bytes_front if is_size else line.is_on_speed_front,
            )
        )
    if len(points) < 2:
        return ""
    label = "KiB" if is_size else "times as fast as the float file"
    with chart_settings():
        return draw_front(
            points, cost=label, quality=f"{name}, {unit}" if unit else name, less_is_better=is_size
        )
