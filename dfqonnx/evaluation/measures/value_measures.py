"""Numbers: mean absolute error and correlation of one output.

    mae         = mean |t - s|, in the output's own unit
    correlation = Pearson's r of t and s, over all inputs and entries

Decibels over the variance of the output are those of `evaluation/statistics.py`.
"""

from __future__ import annotations

import math

import numpy as np

from dfqonnx.evaluation.measures.task_measure import TaskMeasure, Truth, finite
from dfqonnx.evaluation.outputs import Array, Outputs


def mean_absolute_error(first: Array, second: Array) -> float:
    """Return the mean of |first - second|."""
    return float(np.abs(first.astype(np.float64) - second.astype(np.float64)).mean())


def pearson_correlation(first: Array, second: Array) -> float | None:
    """Return Pearson's correlation over all entries; None where one of the two never varies."""
    x, y = (part.astype(np.float64).ravel() for part in (first, second))
    x, y = x - x.mean(), y - y.mean()
    power = math.sqrt(float(x @ x)) * math.sqrt(float(y @ y))
    return finite(float(x @ y) / power) if power > 0 else None


class ValueTally:
    """Gathers the values of one output."""

    def __init__(self, output: str, labels: Array | None = None) -> None:
        self.output, self.labels = output, labels
        self.teacher: list[Array] = []
        self.student: list[Array] = []
        self.places: list[int] = []

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Keep a batch of values; its first input has the place `start`."""
        self.teacher.append(teacher[self.output])
        self.student.append(student[self.output])
        self.places += range(start, start + len(teacher[self.output]))

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return mae and correlation with the float model, and with labels where there are some."""
        teacher, student = (np.concatenate(parts) for parts in (self.teacher, self.student))
        rows = self._rows("float model", teacher, (None, student))
        if self.labels is not None:
            truth = self.labels[self.places]
            rows += self._rows("labels", truth, (teacher, student))
        return tuple(rows)

    def _rows(
        self, truth: Truth, expected: Array, both: tuple[Array | None, Array]
    ) -> list[TaskMeasure]:
        prefix = "label_" if truth == "labels" else ""
        whose = "the labels" if prefix else "the float model's values"
        spread = float(expected.astype(np.float64).std())
        n = len(expected)
        texts = (
            ("mae", mean_absolute_error, False,
             f"mean distance of output {self.output} to {whose}, in its own unit; {whose} spread"
             f" by {spread:.4g} (standard deviation) over {n:,} inputs"),
            ("correlation", pearson_correlation, True,
             f"correlation of output {self.output} with {whose}; 1 moves exactly with them"),
        )  # fmt: skip
        return [
            TaskMeasure(
                name=prefix + name,
                task="values",
                truth=truth,
                teacher=None if both[0] is None else measure(both[0], expected),
                student=measure(both[1], expected),
                higher_is_better=up,
                n=n,
                meaning=meaning,
            )
            for name, measure, up, meaning in texts
        ]
