"""Outputs of two files on the same images: classes, distances, labelled accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqonnx.validate.accuracy import (
    Bounded,
    Drop,
    agreement,
    divergence,
    drop,
    sqnr_db,
    top1,
)
from dfqonnx.validate.session import Array

Outputs = Mapping[str, Array]


@dataclass(frozen=True)
class OutputDistance:
    """How far one output of the student is from the teacher's.

    Attributes:
        name: of the output.
        kl: mean Kullback-Leibler divergence in nats; None where it is not (N, K).
        sqnr_db: signal to quantization noise in decibels; None when infinite.
    """

    name: str
    kl: float | None
    sqnr_db: float | None


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
    teacher: Outputs, student: Outputs, labels: NDArray[np.int64] | None = None
) -> Comparison:
    """Compare outputs by name; the first output of two axes holds the classes."""
    first, second = next(iter(teacher.values())), next(iter(student.values()))
    classes = first.ndim == 2 and first.shape[1] > 1
    outputs = tuple(_distance(name, teacher[name], student[name]) for name in teacher)
    if not classes:
        return Comparison(len(first), None, outputs)
    chosen = Classes(*(tuple(part.argmax(1).tolist()) for part in (first, second)))
    if labels is None:
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


def _distance(
    name: str, teacher: NDArray[np.float32], student: NDArray[np.float32]
) -> OutputDistance:
    decibels = sqnr_db(teacher, student)
    kl = divergence(teacher, student) if teacher.ndim == 2 and teacher.shape[1] > 1 else None
    return OutputDistance(name, kl, decibels if np.isfinite(decibels) else None)
