"""Parts of a report that exist only where somebody looked: training, classes, disagreement."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dfqonnx.validate.accuracy import Bounded
from dfqonnx.validate.comparison import Classes

MOST_PAIRS = 100


@dataclass(frozen=True)
class Moment:
    """Training after `step` steps: seconds so far, mean loss, learning rate over its peak.

    `width`: of the ramp between two codes, 1 to 0; 0 where all weights were rounded.
    """

    step: int
    seconds: float
    loss: float
    rate: float
    width: float = 0.0


@dataclass(frozen=True)
class Training:
    """How the student was trained.

    Attributes:
        steps: done.
        kept: whether the trained student was kept.
        reason: why not, or why training ended early.
        untrained: share of held-out synthetic images on which the student chose the teacher's class
            before training: plain post-training quantization, same size and speed.
        untrained_kl: its divergence from the teacher there, in nats.
        trained_kl: that of the student as it was left.
        history: the course of the loss.
        untrained_error: error of the outputs without classes before training, over their power.
        trained_error: that of the student as it was left.
        untrained_top1: labelled accuracy before training, in percent; None without labels.
        images_seen: steps times images a step.
    """

    steps: int
    kept: bool
    reason: str = ""
    untrained: Bounded | None = None
    untrained_kl: float | None = None
    trained_kl: float | None = None
    history: tuple[Moment, ...] = ()
    untrained_error: float | None = None
    trained_error: float | None = None
    untrained_top1: Bounded | None = None
    images_seen: int | None = None


@dataclass(frozen=True)
class Seen:
    """Held-out synthetic images as both networks see them.

    Attributes:
        images: their places in `synthetic/images.npz`.
        teacher: the teacher's class of each.
        student: the student's.
    """

    images: tuple[int, ...]
    teacher: tuple[int, ...]
    student: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """How often the student says `student` where the teacher says `teacher`."""

    teacher: int
    student: int
    count: int


@dataclass(frozen=True)
class Disagreement:
    """Where teacher and student part.

    Attributes:
        on: `evaluation` or `synthetic` images.
        images: how many were compared.
        differing: on how many they part.
        pairs: the classes, most frequent first; at most 100.
    """

    on: str
    images: int
    differing: int
    pairs: tuple[Pair, ...]


def disagreement(on: str, classes: Classes | None) -> Disagreement | None:
    """Count the pairs of classes that differ; None without classes."""
    if classes is None:
        return None
    both = list(zip(classes.teacher, classes.student, strict=True))
    counts = Counter(pair for pair in both if pair[0] != pair[1])
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    pairs = tuple(Pair(teacher, student, count) for (teacher, student), count in ranked)
    return Disagreement(on, len(both), counts.total(), pairs)
