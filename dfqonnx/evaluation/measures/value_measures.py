"""Numbers: mean absolute error and correlation of one output.

    mae         = mean |t - s|, in the output's own unit
    correlation = Pearson's r of t and s, over all inputs and entries

Only sums are kept, a few for every input: with x = t - c and y = s - c, c the mean of the first
batch, which keeps small spreads around a large mean exact,

    r = (n sum xy - sum x sum y) / sqrt((n sum xx - (sum x)^2) (n sum yy - (sum y)^2))

Decibels over the variance of the output are those of `evaluation/statistics.py`.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from dfqonnx.evaluation.bootstrap import Floats, redraw
from dfqonnx.evaluation.measures.add_intervals import add_intervals
from dfqonnx.evaluation.measures.task_measure import TaskMeasure, Truth, finite
from dfqonnx.evaluation.outputs import Array, Outputs

ROUNDING = 1e-12  # of the sum of squares: what a spread below it may be


class DistanceSums:
    """Sums of every input over the entries of two arrays."""

    def __init__(self) -> None:
        self.center: float | None = None
        self.parts: list[Floats] = []  # (n, 7): entries, |x - y|, x, y, xx, yy, xy

    def add(self, first: Array, second: Array) -> None:
        """Add arrays of one shape, inputs first."""
        rows = max(1, len(first))
        x, y = (part.astype(np.float64).reshape(rows, -1) for part in (first, second))
        if self.center is None:
            self.center = float(x.mean()) if math.isfinite(float(x.mean())) else 0.0
        x, y = x - self.center, y - self.center
        columns = (np.ones_like(x), np.abs(x - y), x, y, x * x, y * y, x * y)
        self.parts.append(np.stack([column.sum(1) for column in columns], 1))

    @property
    def table(self) -> Floats:
        """The sums of all inputs, (N, 7)."""
        return np.concatenate(self.parts)

    @property
    def spread(self) -> float:
        """The standard deviation of the first array's entries."""
        entries, _, x, _, xx, _, _ = self.table.sum(0)
        return math.sqrt(max(0.0, float(xx / entries - (x / entries) ** 2)))

    def mean_distance(self, weights: Floats) -> Floats:
        """Return the mean absolute error (R,) of draws (R, N)."""
        table = self.table
        return np.asarray(weights @ table[:, 1] / (weights @ table[:, 0]))

    def correlation(self, weights: Floats) -> Floats:
        """Return Pearson's r (R,) of draws (R, N); NaN where one of the two never varies."""
        n, _, x, y, xx, yy, xy = (weights @ self.table).T
        first, second = n * xx - x * x, n * yy - y * y
        varies = (first > ROUNDING * n * xx) & (second > ROUNDING * n * yy)
        power = np.sqrt(np.where(varies, first * second, np.nan))
        return np.asarray(np.clip((n * xy - x * y) / power, -1, 1))


class ValueTally:
    """Gathers the distances of one output; lists of different lengths have none."""

    def __init__(self, output: str, labels: Array | None = None) -> None:
        self.output, self.labels = output, labels
        self.own, self.of_teacher, self.of_student = (DistanceSums() for _ in range(3))
        self.is_paired = True  # until the two models give lists of different lengths

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Add a batch of values; its first input has the place `start`."""
        first, second = teacher[self.output], student[self.output]
        self.is_paired = self.is_paired and first.shape == second.shape and first.size > 0
        if not self.is_paired:
            return
        self.own.add(first, second)
        if self.labels is not None:
            truth = self.labels[start : start + len(first)].reshape(first.shape)
            self.of_teacher.add(truth, first)
            self.of_student.add(truth, second)

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return mae and correlation with the float model, and with labels where there are some."""
        if not self.is_paired:
            return ()
        rows = self._rows("float model", None, self.own)
        if self.labels is not None:
            rows += self._rows("labels", self.of_teacher, self.of_student)
        return tuple(rows)

    def _rows(
        self, truth: Truth, teacher: DistanceSums | None, student: DistanceSums
    ) -> list[TaskMeasure]:
        prefix = "label_" if truth == "labels" else ""
        whose = "the labels" if prefix else "the float model's values"
        n = len(student.table)
        texts = (
            ("mae", DistanceSums.mean_distance, False,
             f"mean distance of output {self.output} to {whose}, in its own unit; {whose} spread"
             f" by {student.spread:.4g} (standard deviation) over {n:,} inputs"),
            ("correlation", DistanceSums.correlation, True,
             f"correlation of output {self.output} with {whose}; 1 moves exactly with them"),
        )  # fmt: skip
        rows, all_inputs = [], np.ones((1, n))
        for name, figure, up, meaning in texts:
            parts = [student] if teacher is None else [student, teacher]
            values = [finite(float(figure(part, all_inputs)[0])) for part in parts]
            found = TaskMeasure(
                name=prefix + name,
                task="values",
                truth=truth,
                teacher=None if teacher is None else values[1],
                student=values[0],
                higher_is_better=up,
                n=n,
                meaning=meaning,
            )
            draws = redraw(n, *(partial(figure, part) for part in parts))
            rows.append(add_intervals(found, *draws, is_share=False))
        return rows
