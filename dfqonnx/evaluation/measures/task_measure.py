"""One number that a user of a task knows, for the float model and for the student."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from dfqonnx.evaluation.outputs import Outputs
from dfqonnx.evaluation.statistics import Interval

Task = Literal["classes", "boxes", "masks", "images", "texts", "values", "custom"]
Truth = Literal["labels", "float model"]
InputSet = Literal["evaluation", "real", "synthetic"]


@dataclass(frozen=True, kw_only=True)
class TaskMeasure:
    """A measure of both models on the same `n` inputs.

    Attributes:
        name: as in a gate, such as `map50` or `fidelity_map50`.
        task: what the output was read as.
        truth: what both are compared with; where it is the float model, `teacher` is None.
        teacher, student: None where the inputs do not decide it, and `meaning` says why.
        unit: behind the number, such as `%` or ` dB`; empty for a plain number.
        n: the inputs that it was measured on.
        inputs: evaluation data, other real images, or images that no camera saw.
        meaning: one sentence.
        interval: of the student's number, 95 % over inputs like these; None where there is none.
        drop_interval: of the drop, both models on the same inputs.
    """

    name: str
    task: Task
    truth: Truth
    teacher: float | None = None
    student: float | None = None
    unit: str = ""
    higher_is_better: bool = True
    n: int = 0
    inputs: InputSet = "synthetic"
    meaning: str = ""
    interval: Interval | None = None
    drop_interval: Interval | None = None

    @property
    def drop(self) -> float | None:
        """How much worse the student is than the float model, in the measure's own unit.

        Below 0 where the student is better; None where one of the two is not known.
        """
        if self.teacher is None or self.student is None:
            return None
        lost = self.teacher - self.student
        return lost if self.higher_is_better else -lost


class TaskTally(Protocol):
    """Gathers what a task's measures need, batch by batch."""

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Count a batch of outputs; its first input has the place `start` among all."""

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return the measures of everything that was added."""


def keep_worst(found: Sequence[TaskMeasure]) -> tuple[TaskMeasure, ...]:
    """Return one measure a name, that of the worst output by the student's number."""
    worst: dict[str, TaskMeasure] = {}
    for each in found:
        known = worst.get(each.name)
        if known is None or known.student is None:
            worst[each.name] = each
        elif each.student is not None:
            is_worse = each.student < known.student
            if is_worse == each.higher_is_better and each.student != known.student:
                worst[each.name] = each
    return tuple(worst.values())


def best_known(found: Sequence[TaskMeasure], name: str) -> TaskMeasure | None:
    """Return the measure called `name` on the inputs that say most; None where there is none."""
    order = get_args(InputSet)
    known = [each for each in found if each.name == name]
    return min(known, key=lambda each: order.index(each.inputs), default=None)


def finite(value: float) -> float | None:
    """Return `value`, or None where it is no number."""
    return float(value) if math.isfinite(value) else None
