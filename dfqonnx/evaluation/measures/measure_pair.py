"""Measures of a pair of files over one set of inputs, batch by batch.

What is measured is chosen by the outputs of the first batch; see `choose_tallies.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.measures.choose_tallies import (
    ChosenTallies,
    MeasureOptions,
    OutputContext,
    choose_tallies,
)
from dfqonnx.evaluation.measures.side_pictures import ShowsResults, SidePicture
from dfqonnx.evaluation.measures.task_measure import InputSet, TaskMeasure, keep_worst
from dfqonnx.evaluation.outputs import Outputs


@dataclass(frozen=True)
class PairMeasures:
    """The measures of one set of inputs, and what a user may want to know of the choice."""

    measures: tuple[TaskMeasure, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: tuple[SidePicture, ...] = ()  # of the first inputs, where results can be drawn


class PairMeasurement:
    """Gathers batches of outputs of both models."""

    def __init__(self, context: OutputContext, options: MeasureOptions, inputs: InputSet) -> None:
        self.context, self.options, self.inputs = context, options, inputs
        self.chosen: ChosenTallies | None = None

    def add(self, teacher: Outputs, student: Outputs, start: int, count: int | None = None) -> None:
        """Count a batch of `count` inputs; its first one has the place `start` among all.

        Without `count`, every row of an output is an input.

        Raises:
            UsageError: outputs, labels and what the user asks for do not fit each other.
        """
        if count is not None:
            teacher, student = group_rows(teacher, count), group_rows(student, count)
        if self.chosen is None:
            self.chosen = choose_tallies(teacher, student, self.context, self.options)
        for tally in self.chosen.tallies:
            tally.add(teacher, student, start)

    def result(self, pixels: NDArray[np.uint8] | None = None) -> PairMeasures:
        """Return the measures of all batches, drawn on the first inputs' pixels (n, H, W, C).

        Raises:
            UsageError: the user's function fails.
        """
        if self.chosen is None:
            return PairMeasures()
        found = [each for tally in self.chosen.tallies for each in tally.measures()]
        labeled = self.context.labels is not None
        measures = tuple(
            replace(each, inputs=self.inputs, truth=each.truth if labeled else "float model")
            if each.task == "custom"
            else replace(each, inputs=self.inputs)
            for each in keep_worst(found)
        )
        return PairMeasures(measures, self.chosen.notes, self._pictures(pixels))

    def _pictures(self, pixels: NDArray[np.uint8] | None) -> tuple[SidePicture, ...]:
        tallies = () if self.chosen is None or pixels is None else self.chosen.tallies
        drawable = next((each for each in tallies if isinstance(each, ShowsResults)), None)
        if drawable is None or pixels is None:
            return ()
        results = zip(pixels, *drawable.shown(), strict=False)  # as many as there are of both
        return tuple(SidePicture(each, first, second) for each, first, second in results)


def group_rows(outputs: Outputs, count: int) -> Outputs:
    """Return outputs with one row for each of `count` inputs: (N A, ...) becomes (N, A, ...).

    Outputs whose rows are no multiple of the inputs, such as lists of detections, stay as they are.
    """
    return {
        name: each.reshape(count, len(each) // count, *each.shape[1:])
        if each.ndim and len(each) not in {0, count} and len(each) % count == 0
        else each
        for name, each in outputs.items()
    }
