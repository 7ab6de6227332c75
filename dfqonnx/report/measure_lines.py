"""Measures of a task in words: numbers of both models, their inputs, and what a number means.

Classes have lines of their own in a report, so they are left out here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfqonnx.evaluation.measures.task_measure import InputSet, TaskMeasure
from dfqonnx.evaluation.statistics import Interval

_INPUTS: dict[InputSet, str] = {
    "evaluation": "evaluation inputs",
    "real": "real inputs without labels",
    "synthetic": "synthetic inputs",
}


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """A measure as a table shows it; an empty text is unknown or does not apply."""

    name: str
    inputs: str
    teacher: str
    student: str
    drop: str
    meaning: str


def measure_rows(measures: Sequence[TaskMeasure]) -> tuple[MeasureRow, ...]:
    """Return a row for each measure, those of classes left out."""
    return tuple(
        MeasureRow(
            name=each.name,
            inputs=f"{each.n:,} {_INPUTS[each.inputs]}",
            teacher=_format(each, each.teacher),
            student=_with_ends(each, each.student, each.interval) or "unknown",
            drop=_with_ends(each, each.drop, each.drop_interval),
            meaning=each.meaning,
        )
        for each in measures
        if each.task != "classes"
    )


def measure_lines(measures: Sequence[TaskMeasure]) -> Iterator[tuple[str, str]]:
    """Yield (label, text) for each measure, what it means included."""
    for each in measures:
        if each.task != "classes":
            yield each.name, f"{describe_measure(each)}: {each.meaning}"


def describe_measure(found: TaskMeasure) -> str:
    """Return the numbers of both models and their inputs."""
    where = f"n = {found.n:,} {_INPUTS[found.inputs]}"
    student = _format(found, found.student) or "unknown"
    if found.interval is not None:
        where = f"95 %: {format_ends(found, found.interval)}, {where}"
    if found.teacher is None:
        return f"{student} ({where})"
    lost = ""
    if found.drop_interval is not None:
        ends = format_ends(found, found.drop_interval)
        lost = f"; {_format(found, found.drop)} worse, 95 %: {ends}"
    return f"{student} instead of the float model's {_format(found, found.teacher)} ({where}{lost})"


def format_ends(found: TaskMeasure, interval: Interval) -> str:
    """Return `0.31 to 0.36`, with the measure's unit."""
    return f"{interval.low:.4g} to {interval.high:.4g}{found.unit}"


def main_measure(measures: Sequence[TaskMeasure]) -> TaskMeasure | None:
    """Return the measure that speaks for a result: on the best inputs, with labels, known."""
    known = [each for each in measures if each.task != "classes" and each.student is not None]
    order: tuple[InputSet, ...] = ("evaluation", "real", "synthetic")

    def rank(each: TaskMeasure) -> tuple[bool, int, bool]:
        return each.task != "custom", order.index(each.inputs), each.truth != "labels"

    return min(known, key=rank, default=None)


def _with_ends(measure: TaskMeasure, value: float | None, interval: Interval | None) -> str:
    ends = "" if interval is None else f" ({format_ends(measure, interval)})"
    return f"{_format(measure, value)}{ends}"


def _format(measure: TaskMeasure, value: float | None) -> str:
    """Return a number with four digits, and its unit."""
    return "" if value is None else f"{value:.4g}{measure.unit}"
