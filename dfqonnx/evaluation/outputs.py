"""What kind of output a model has, and how the outputs of two files compare. N images, K classes.

    classes   (N, K) real, no input's own shape same largest entry; KL; SQNR
    mask      (N, K, H, W) at the image's size  share of pixels with the same class; mean IoU; SQNR
    labels    integers                          share of equal entries; mean IoU
    image     (N, 1 or 3, h, w), h / w as the image's, no smaller     PSNR; SQNR
    values    all other numbers                 SQNR

    SQNR = power of what varies with the input / sum (t - s)^2, in decibels, see statistics.py
    PSNR = 10 log10( (max t - min t)^2 / mean (t - s)^2 )
    IoU of class k = pixels where both say k / pixels where either does; the mean is over the
    classes that the teacher says somewhere

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
from dfqonnx.evaluation.statistics import Drop, Interval, agreement, divergence, drop, sqnr_db, top1

Kind = Literal["classes", "mask", "labels", "image", "values", "varying"]
Array = NDArray[Any]
Outputs = Mapping[str, Array]
_COLORS = (1, 3)
_MOST_LABELS = 4096


@dataclass(frozen=True, kw_only=True)
class OutputDistance:
    """How far one output of the student is from the teacher's."""

    name: str
    kl: float | None = None  # mean, in nats; None where it holds no classes
    sqnr_db: float | None = None  # None when infinite or not defined
    kind: Kind = "values"
    exact: bool = False  # equal, so that decibels are infinite
    same: float | None = None  # share of equal images, pixels or entries; None without classes
    iou: float | None = None  # mean over classes; None where it is no mask
    psnr_db: float | None = None  # None where it is no image, or when infinite


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


def compare_output(
    name: str,
    teacher: Array,
    student: Array,
    image: Sequence[int | None] | None = None,
    *,
    inputs: int | None = None,
) -> OutputDistance:
    """Return how far the student's values of one output are from the teacher's.

    Rows of an output are images; where they are several to each of `inputs`, they hold no classes.
    """
    if teacher.shape != student.shape or not teacher.size or teacher.dtype.kind not in "iubf":
        return OutputDistance(name=name, kind="varying")
    kind, axis = _kind_and_axis(teacher, image)
    rows = len(teacher) if inputs is None else inputs
    if kind == "classes" and len(teacher) != rows:
        kind = "values"
    if kind == "labels":
        share, found = float((teacher == student).mean()), mean_iou(teacher, student)
        return OutputDistance(name=name, kind=kind, exact=share == 1.0, same=share, iou=found)
    teacher, student = (part.astype(np.float64) for part in (teacher, student))
    decibels = sqnr_db(_by_input(teacher, rows), _by_input(student, rows))
    same: float | None = None
    iou: float | None = None
    if kind in {"classes", "mask"}:
        chosen = teacher.argmax(axis), student.argmax(axis)
        same = float((chosen[0] == chosen[1]).mean())
        iou = mean_iou(*chosen) if kind == "mask" else None
    return OutputDistance(
        name=name,
        kl=divergence(teacher, student) if kind == "classes" else None,
        sqnr_db=None if decibels is None or not math.isfinite(decibels) else decibels,
        kind=kind,
        exact=decibels == math.inf,
        same=same,
        iou=iou,
        psnr_db=psnr_db(teacher, student) if kind == "image" else None,
    )


def _by_input(output: Array, inputs: int) -> Array:
    """Return an output with the inputs on its first axis, where their rows follow each other."""
    is_whole = inputs > 0 and len(output) % inputs == 0
    return output.reshape(inputs, -1) if is_whole else output.reshape(1, -1)


def psnr_db(teacher: Array, student: Array) -> float | None:
    """Return the peak signal to noise ratio; None when it is infinite or not defined."""
    noise = float(np.square(teacher - student).mean())
    peak = float(teacher.max() - teacher.min())
    if not (0 < noise < math.inf and 0 < peak < math.inf):
        return None
    return 20 * math.log10(peak) - 10 * math.log10(noise)


def mean_iou(teacher: Array, student: Array) -> float | None:
    """Return the mean intersection over union of the classes that the teacher says."""
    known = np.unique(teacher)
    if known.size > _MOST_LABELS:  # indices, not classes
        return None
    found = []
    for label in known:
        first, second = teacher == label, student == label
        found.append(float((first & second).sum()) / float((first | second).sum()))
    return float(np.mean(found))


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


def compare_outputs(
    teacher: Outputs,
    student: Outputs,
    labels: NDArray[np.int64] | None = None,
    *,
    image: Sequence[int | None] | None = None,
    inputs: int | None = None,
) -> Comparison:
    """Compare outputs by name, images first; the first one with scores (N, K) holds the classes.

    `image` is the shape of the model's input without the batch axis, `inputs` how many there were.
    """
    shared = [name for name in teacher if name in student]
    outputs = tuple(
        compare_output(name, teacher[name], student[name], image, inputs=inputs) for name in shared
    )
    images = inputs or max((len(teacher[name]) for name in shared), default=0)
    scores = next((each.name for each in outputs if each.kind == "classes"), None)
    if scores is None:
        return Comparison(images=images, outputs=outputs)
    first, second = teacher[scores], student[scores]
    chosen = Classes(*(tuple(part.argmax(1).tolist()) for part in (first, second)))
    found = Comparison(
        images=len(first),
        agreement=agreement(first, second),
        outputs=outputs,
        classes=chosen,
        evidence=describe_classes(first.argmax(1), second.argmax(1), first.shape[1]),
    )
    if labels is None or len(labels) != len(first):
        return found
    return replace(
        found,
        evidence=describe_classes(first.argmax(1), second.argmax(1), first.shape[1], labels),
        teacher_top1=top1(first, labels),
        student_top1=top1(second, labels),
        drop=drop(first, second, labels),
    )
