"""Classes: accuracy against labels, and agreement with the float model.

top1      = share of inputs whose largest entry is the label, in percent
agreement = share of inputs on which both models choose the same class, 0 to 1
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.label_types import ClassLabels
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.outputs import Outputs
from dfqonnx.evaluation.statistics import agreement, drop, top1


class ClassTally:
    """Gathers the classes that both models choose by one output (N, K)."""

    def __init__(self, output: str, labels: ClassLabels | None = None) -> None:
        self.output, self.labels = output, labels
        self.teacher: list[NDArray[np.int64]] = []
        self.student: list[NDArray[np.int64]] = []
        self.places: list[int] = []

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Keep the classes of a batch; its first input has the place `start`."""
        self.teacher.append(teacher[self.output].argmax(1))
        self.student.append(student[self.output].argmax(1))
        self.places += range(start, start + len(self.teacher[-1]))

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return agreement, and top1 where there are labels."""
        first, second = np.concatenate(self.teacher), np.concatenate(self.student)
        n, share = len(first), agreement(first, second)
        fidelity = TaskMeasure(
            name="agreement",
            task="classes",
            truth="float model",
            student=share.value,
            n=n,
            interval=share,
            meaning=f"share of {n:,} inputs on which the student chooses the float model's class",
        )
        if self.labels is None:
            return (fidelity,)
        truth = self.labels[self.places]
        student = top1(second, truth)
        accuracy = TaskMeasure(
            name="top1",
            task="classes",
            truth="labels",
            teacher=top1(first, truth).value,
            student=student.value,
            unit=" %",
            n=n,
            interval=student,
            drop_interval=drop(first, second, truth).points,
            meaning=f"share of {n:,} inputs whose class is the label",
        )
        return accuracy, fidelity
