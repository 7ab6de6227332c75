"""Mean intersection over union of masks. N images, K classes, pixels of the model's input.

    IoU of class k = pixels where both say k / pixels where either does, over all images together
    miou           = mean over the classes that the truth says somewhere

Every image's pixels are counted by themselves, so that images can be drawn anew for an interval.

A mask is the largest of K planes (N, K, h, w) or (N, h, w, K), whole numbers (N, h, w), or one
plane of probabilities, which says class 1 from 0.5 on. A mask of another size than its label is
brought to the label's by nearest neighbors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.fit import fit_mask
from dfqonnx.data.label_types import NO_CLASS, MaskLabels
from dfqonnx.evaluation.bootstrap import Floats, WeightedFigure, redraw
from dfqonnx.evaluation.measures.add_intervals import add_intervals
from dfqonnx.evaluation.measures.side_pictures import SHOWN_INPUTS, Shown
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.outputs import Array, Outputs

THRESHOLD = 0.5
Mask = NDArray[np.int64]


def to_mask(output: Array, axis: int = 1) -> Mask:
    """Return the classes (N, h, w) that an output says; planes stand on `axis`."""
    if output.dtype.kind in "iub":
        size = find_mask_size(output.shape) or output.shape[1:]
        return np.asarray(output.reshape(len(output), *size), np.int64)
    planes = np.moveaxis(output, axis, 1)
    if planes.shape[1] == 1:
        return np.asarray(planes[:, 0] >= THRESHOLD, np.int64)
    return np.asarray(planes.argmax(1), np.int64)


def find_mask_size(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return height and width of an output (N, ...) of whole numbers; None where it is no mask."""
    size = shape[1:] if len(shape) == 3 else tuple(n for n in shape[1:] if n != 1)
    return size if len(size) == 2 else None


class OverlapCounts:
    """Pixels that two masks share, and that either has: class by class, of every image."""

    def __init__(self) -> None:
        self.counts: list[dict[int, tuple[int, int, int]]] = []  # class -> both, either, true

    def add(self, truth: Mask, found: Mask) -> None:
        """Count masks (n, h, w) of one shape; pixels of `NO_CLASS` do not count."""
        for first, second in zip(truth, found, strict=True):
            self.counts.append(_count_pixels(first, second))

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that the truth says somewhere."""
        return tuple(sorted({k for image in self.counts for k, n in image.items() if n[2]}))

    def mean(self) -> float | None:
        """Return the mean over the classes that the truth says; None without pixels."""
        return float(self.figure()(np.ones((1, len(self.counts))))[0]) if self.classes else None

    def figure(self) -> WeightedFigure:
        """Return the mean as a figure of the images."""
        none = (0, 0, 0)
        table = np.array([[c.get(k, none) for k in self.classes] for c in self.counts], np.float64)

        def mean_of_draws(weights: Floats) -> Floats:
            both, either, true = (weights @ table[:, :, k] for k in range(3))
            shares = np.where(true > 0, both / np.maximum(either, 1), 0)
            shown = (true > 0).sum(1)
            with np.errstate(invalid="ignore"):
                return np.asarray(shares.sum(1) / np.where(shown > 0, shown, np.nan))

        return mean_of_draws


def _count_pixels(truth: Mask, found: Mask) -> dict[int, tuple[int, int, int]]:
    """Return each class's pixels: where both say it, where either does, where the truth does."""
    counted = truth != NO_CLASS
    truth, found = truth[counted], found[counted]
    parts = (truth[truth == found], truth, found)
    both, true, said = (
        dict(zip(*(each.tolist() for each in np.unique(part, return_counts=True)), strict=True))
        for part in parts
    )
    return {
        k: (both.get(k, 0), true.get(k, 0) + said.get(k, 0) - both.get(k, 0), true.get(k, 0))
        for k in true.keys() | said.keys()
    }


class MaskTally:
    """Counts the overlap of masks of one output."""

    def __init__(self, output: str, axis: int, labels: MaskLabels | None = None) -> None:
        self.output, self.axis, self.labels = output, axis, labels
        self.own, self.of_teacher, self.of_student = (OverlapCounts() for _ in range(3))
        self.images = 0
        self.first: tuple[list[Shown], list[Shown]] = ([], [])

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Count a batch of outputs; its first image has the place `start`."""
        first, second = (to_mask(part[self.output], self.axis) for part in (teacher, student))
        self.own.add(first, second)
        room = SHOWN_INPUTS - len(self.first[0])
        for kept, masks in zip(self.first, (first, second), strict=True):
            kept += list(masks[:room])
        self.images += len(first)
        if self.labels is not None:
            truth = self.labels.read_masks(start, start + len(first))
            self.of_teacher.add(truth, _resize(first, truth))
            self.of_student.add(truth, _resize(second, truth))

    def shown(self) -> tuple[list[Shown], list[Shown]]:
        """Return the masks of the first images."""
        return self.first

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return miou against labels, and against the float model's own masks."""
        kinds, n = len(self.own.classes), self.images
        ending = "1 is the same masks"
        if kinds < 2:
            ending = "where one class is all that is seen, nothing can be said"
        found = TaskMeasure(
            name="fidelity_miou",
            task="masks",
            truth="float model",
            student=self.own.mean() if kinds > 1 else None,
            n=n,
            meaning="mean over classes of the overlap (intersection over union) of the"
            f" student's masks with the float model's own, which show {kinds} classes on"
            f" {n:,} images; {ending}",
        )
        found = add_intervals(found, *redraw(n, self.own.figure()), is_share=True)
        return (found,) if self.labels is None else (self._labeled(), found)

    def _labeled(self) -> TaskMeasure:
        kinds, n = len(self.of_teacher.classes), self.images
        found = TaskMeasure(
            name="miou",
            task="masks",
            truth="labels",
            teacher=self.of_teacher.mean(),
            student=self.of_student.mean(),
            n=n,
            meaning="mean over classes of the overlap (intersection over union) with the"
            f" labeled masks, which show {kinds} classes on {n:,} images",
        )
        draws = redraw(n, self.of_student.figure(), self.of_teacher.figure())
        return add_intervals(found, *draws, is_share=True)


def _resize(masks: Mask, truth: Mask) -> Mask:
    frame = truth.shape[1], truth.shape[2]
    if masks.shape[1:] == frame:
        return masks
    return np.stack([fit_mask(mask, frame, "stretch", NO_CLASS) for mask in masks])
