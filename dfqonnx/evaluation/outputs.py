"""What kind of output a model has, and how the outputs of two files compare. N images, K classes.

    classes   (N, K) real, no input's own shape same largest entry; KL; SQNR
    mask      (N, K, H, W) at the image's size  share of pixels with the same class; SQNR
    labels    integers                          share of equal entries
    image     (N, 1 or 3, h, w), h / w as the image's, no smaller     SQNR
    values    all other numbers                 SQNR

    SQNR = power of what varies with the input / sum (t - s)^2, in decibels, see signal_noise.py

Outputs are counted batch by batch and then forgotten: kept are a few numbers an input. What a user
of the task reads from them (overlap of masks, PSNR, boxes) is measured in `measures`.

Outputs whose length depends on the images (lists of detections) have no entries to pair and are
called `varying`; what feeds them is compared where the file gives it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.evidence import ClassEvidence, describe_classes
from dfqonnx.evaluation.signal_noise import SignalAndNoise
from dfqonnx.evaluation.statistics import Drop, Interval, agreement, divergence, drop, top1

Kind = Literal["classes", "mask", "labels", "image", "values", "varying"]
Array = NDArray[Any]
Outputs = Mapping[str, Array]
_COLORS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class OutputDistance:
    """How far one output of the student is from the teacher's."""

    name: str
    kl: float | None = None  # mean, in nats; None where it holds no classes
    sqnr_db: float | None = None  # None when infinite or not defined
    kind: Kind = "values"
    exact: bool = False  # equal, so that decibels are infinite
    same: float | None = None  # share of equal images, pixels or entries; None without classes
    sqnr_interval: Interval | None = None  # 95 % over the inputs


def output_kind(output: Array, image: Sequence[int | None] | None = None) -> Kind:
    """Return the kind of an output, images first.

    `image` is the shape of the model's input without the batch axis.
    """
    return _kind_and_axis(output, image)[0]


def output_axis(output: Array, image: Sequence[int | None] | None = None) -> int:
    """Return the axis of an output, images first, that holds its classes or channels."""
    return _kind_and_axis(output, image)[1]


def _kind_and_axis(output: Array, image: Sequence[int | None] | None) -> tuple[Kind, int]:
    """Return the kind and the axis of classes or channels."""
    if output.dtype.kind in "iub":
        return "labels", 1
    if output.ndim == 2 and output.shape[1] > 1:
        return (
            "values" if image is not None and output.shape[1:] == tuple(image) else "classes"
        ), 1
    if output.ndim != 4 or image is None or len(image) != 3:
        return "values", 1
    first, second, third = (d or 0 for d in image)
    rows, columns = (
        (first, second) if third in _COLORS and first not in _COLORS else (second, third)
    )
    for axis in (1, 3):
        channels = output.shape[axis]
        height, width = (output.shape[a] for a in (1, 2, 3) if a != axis)
        if channels in _COLORS and height * columns == width * rows and height >= rows > 1:
            return "image", axis
        if channels > 1 and (height, width) == (rows, columns) and height > 1:
            return "mask", axis
    return "values", 1


class OutputTally:
    """Gathers how far one output of the student is from the teacher's, batch by batch.

    `image` is the shape of the model's input without the batch axis.
    """

    def __init__(self, name: str, image: Sequence[int | None] | None = None) -> None:
        self.name, self._image = name, image
        self._kind: Kind | None = None
        self._shape: tuple[int, ...] = ()  # of one input's entries
        self._rows, self._entries, self._equal, self._divergence = 0, 0, 0, 0.0
        self._levels = SignalAndNoise()

    def add(self, teacher: Array, student: Array, inputs: int | None = None) -> None:
        """Count a batch of `inputs` inputs.

        Rows of an output are inputs; where they are several to each, they hold no classes.
        """
        rows = len(teacher) if inputs is None else inputs
        kind, axis = self._kind_of_batch(teacher, student, rows)
        shape = (axis, *_by_input(teacher, rows).shape[1:]) if kind != "varying" else ()
        if self._kind is not None and (kind != self._kind or shape != self._shape):
            kind = "varying"
        self._kind, self._shape, self._rows = kind, shape, self._rows + rows
        if kind == "varying":
            return
        if kind == "labels":
            self._equal += int((teacher == student).sum())
            self._entries += teacher.size
            return
        self._levels.add(_by_input(teacher, rows), _by_input(student, rows))
        if kind in {"classes", "mask"}:
            same = teacher.argmax(axis) == student.argmax(axis)
            self._equal += int(same.sum())
            self._entries += same.size
        if kind == "classes":
            self._divergence += rows * divergence(teacher, student)

    def _kind_of_batch(self, teacher: Array, student: Array, rows: int) -> tuple[Kind, int]:
        if teacher.shape != student.shape or not teacher.size or teacher.dtype.kind not in "iubf":
            return "varying", 1
        kind, axis = _kind_and_axis(teacher, self._image)
        return ("values" if kind == "classes" and len(teacher) != rows else kind), axis

    @property
    def kind(self) -> Kind:
        """What the output is taken for."""
        return self._kind or "varying"

    def distance(self) -> OutputDistance:
        """Return how far the student's values are from the teacher's."""
        kind = self.kind
        share = self._equal / self._entries if self._entries else None
        if kind in {"labels", "varying"}:
            is_known = kind == "labels"
            exact = is_known and share == 1.0
            return OutputDistance(
                name=self.name, kind=kind, exact=exact, same=share if is_known else None
            )
        decibels = self._levels.decibels
        return OutputDistance(
            name=self.name,
            kl=self._divergence / self._rows if kind == "classes" else None,
            sqnr_db=None if decibels is None or not math.isfinite(decibels) else decibels,
            kind=kind,
            exact=decibels == math.inf,
            same=share,
            sqnr_interval=self._levels.interval,
        )


def compare_output(
    name: str,
    teacher: Array,
    student: Array,
    image: Sequence[int | None] | None = None,
    *,
    inputs: int | None = None,
) -> OutputDistance:
    """Return how far the student's values of one output are from the teacher's, in one batch."""
    tally = OutputTally(name, image)
    tally.add(teacher, student, inputs)
    return tally.distance()


def _by_input(output: Array, inputs: int) -> Array:
    """Return an output with the inputs on its first axis, where their rows follow each other."""
    is_whole = inputs > 0 and len(output) % inputs == 0
    return output.reshape(inputs, -1) if is_whole else output.reshape(1, -1)


@dataclass(frozen=True)
class Classes:
    """The class that each network chooses, image by image."""

    teacher: tuple[int, ...]
    student: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Teacher against student on one set of images."""

    images: int = 0  # how many
    agreement: Interval | None = None  # share of images with the same class; None without classes
    outputs: tuple[OutputDistance, ...] = ()
    teacher_top1: Interval | None = None  # in percent; None without labels
    student_top1: Interval | None = None  # in percent; None without labels
    drop: Drop | None = None  # paired; None without labels
    classes: Classes | None = None  # of every image; None without classes
    evidence: ClassEvidence | None = None  # what the classes tell about images and labels


class ComparisonTally:
    """Compares outputs by name, batch by batch; the first one with scores holds the classes."""

    def __init__(self, image: Sequence[int | None] | None = None) -> None:
        self._image, self._images = image, 0
        self._outputs: dict[str, OutputTally] = {}
        self._classes: dict[str, int] = {}
        self._chosen: dict[str, list[tuple[Array, Array]]] = {}

    def add(self, teacher: Outputs, student: Outputs, inputs: int | None = None) -> None:
        """Count a batch of `inputs` inputs."""
        shared = [name for name in teacher if name in student]
        self._images += inputs or max((len(teacher[name]) for name in shared), default=0)
        for name in shared:
            tally = self._outputs.setdefault(name, OutputTally(name, self._image))
            first, second = teacher[name], student[name]
            tally.add(first, second, inputs)
            if tally.kind == "classes":
                self._classes[name] = first.shape[1]
                self._chosen.setdefault(name, []).append((first.argmax(1), second.argmax(1)))

    def result(self, labels: NDArray[np.int64] | None = None) -> Comparison:
        """Return the comparison of all batches, with labels (N,) where there are some."""
        outputs = tuple(tally.distance() for tally in self._outputs.values())
        scores = next((each.name for each in outputs if each.kind == "classes"), None)
        if scores is None:
            return Comparison(images=self._images, outputs=outputs)
        first, second = (np.concatenate(each) for each in zip(*self._chosen[scores], strict=True))
        count = self._classes[scores]
        found = Comparison(
            images=len(first),
            agreement=agreement(first, second),
            outputs=outputs,
            classes=Classes(tuple(first.tolist()), tuple(second.tolist())),
            evidence=describe_classes(first, second, count),
        )
        if labels is None or len(labels) != len(first):
            return found
        return replace(
            found,
            evidence=describe_classes(first, second, count, labels),
            teacher_top1=top1(first, labels),
            student_top1=top1(second, labels),
            drop=drop(first, second, labels),
        )


def compare_outputs(
    teacher: Outputs,
    student: Outputs,
    labels: NDArray[np.int64] | None = None,
    *,
    image: Sequence[int | None] | None = None,
    inputs: int | None = None,
) -> Comparison:
    """Compare outputs by name in one batch, see `ComparisonTally`.

    `image` is the shape of the model's input without the batch axis, `inputs` how many there were.
    """
    tally = ComparisonTally(image)
    tally.add(teacher, student, inputs)
    return tally.result(labels)
