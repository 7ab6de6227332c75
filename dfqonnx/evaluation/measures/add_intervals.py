"""The intervals of a measure, from its figures on inputs drawn anew (`evaluation/bootstrap.py`).

Both models' figures are taken on the same draws, so the interval of the drop is a paired one: what
makes an input hard for both of them does not widen it.
"""

from __future__ import annotations

from dataclasses import replace

from dfqonnx.evaluation.bootstrap import Floats, Scale, interval_of_draws
from dfqonnx.evaluation.measures.task_measure import TaskMeasure


def add_intervals(
    measure: TaskMeasure,
    student: Floats,
    teacher: Floats | None = None,
    *,
    is_share: bool,
    informative: int | None = None,
) -> TaskMeasure:
    """Return the measure with the interval of the student's number, and of the drop if known.

    `student` and `teacher` (R,) are figures on the same draws; a share lies in 0 to 1. Only the
    `informative` inputs say something, such as images with a true box; None means all of them.
    """
    n = measure.n if informative is None else informative
    own = interval_of_draws(student, measure.student, n, "share" if is_share else "any")
    if teacher is None:
        return replace(measure, interval=own)
    lost = teacher - student if measure.higher_is_better else student - teacher
    scale: Scale = "difference of shares" if is_share else "any"
    return replace(
        measure,
        interval=own,
        drop_interval=interval_of_draws(lost, measure.drop, n, scale),
    )
