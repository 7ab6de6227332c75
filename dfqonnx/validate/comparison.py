"""Outputs of two files on the same images: classes, distances, labelled accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqonnx.validate.accuracy import (
    Bounded,
    Drop,
    agreement,
    drop,
    top1,
)
from dfqonnx.validate.outputs import OutputDistance, compare
from dfqonnx.validate.session import Array

__all__ = ["Classes", "Comparison", "OutputDistance", "Outputs", "measure"]
Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class Classes:
    """What both choose, image by image."""

    teacher: tuple[int, ...]
    student: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """Teacher against student on one set of images.

    Attributes:
        images: how many.
        agreement: share of images with the same class, 0..1; None where there are no classes.
        outputs: distance of every output.
        teacher_top1: in percent; None without labels.
        student_top1: in percent; None without labels.
        drop: paired; None without labels.
        classes: the teacher's and the student's class of every image; None without classes.
    """

    images: int
    agreement: Bounded | None
    outputs: tuple[OutputDistance, ...]
    teacher_top1: Bounded | None = None
    student_top1: Bounded | None = None
    drop: Drop | None = None
    classes: Classes | None = None


def measure(
    teacher: Outputs,
    student: Outputs,
    labels: NDArray[np.int64] | None = None,
    *,
    image: Sequence[int | None] | None = None,
) -> Comparison:
    """Compare outputs by name; the first one with scores (N, K) holds the classes.

    Args:
        teacher: outputs by name, images first.
        student: the same.
        labels: int64 (N).
        image: shape of the input without the batch axis.
    """
    shared = [name for name in teacher if name in student]
    outputs = tuple(compare(name, teacher[name], student[name], image) for name in shared)
    images = max((len(teacher[name]) for name in shared), default=0)
    scores = next((found.name for found in outputs if found.kind == "classes"), None)
    if scores is None:
        return Comparison(images, None, outputs)
    first, second = teacher[scores], student[scores]
    chosen = Classes(*(tuple(part.argmax(1).tolist()) for part in (first, second)))
    if labels is None or len(labels) != len(first):
        return Comparison(len(first), agreement(first, second), outputs, classes=chosen)
    return Comparison(
        len(first),
        agreement(first, second),
        outputs,
        top1(first, labels),
        top1(second, labels),
        drop(first, second, labels),
        chosen,
    )
