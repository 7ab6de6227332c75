"""Parts of a report: the two files, widths, agreement, parity, training images.

Parts of a report that exist only where somebody looked: training, classes, disagreement.

Parts of a report: rules that were checked, and the verdict that they add up to.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, Self

from dfqonnx.core.quantization import QuantizationConfig
from dfqonnx.evaluation import parity
from dfqonnx.evaluation.outputs import Classes, OutputDistance
from dfqonnx.evaluation.statistics import Interval


@dataclass(frozen=True)
class ModelFacts:
    """One of the two files.

    Attributes:
        path: where it lies; of the student, relative to the output folder.
        sha256: of the file's bytes.
        bytes: size, external data counted in.
        top1: labeled accuracy in percent, with Wilson bounds.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    top1: Interval | None = None


@dataclass(frozen=True)
class Widths:
    """Bits, and by which convention (README, section Conventions).

    Attributes:
        weights: of every Conv, Gemm and MatMul.
        activations: of their inputs.
        ends: weight bits of the first and last layer; None when they are like the others.
        stream: elementwise operands, network input, classifier input.
    """

    weights: int
    activations: int
    ends: int | None = None
    stream: int = 8


@dataclass(frozen=True)
class AgreementFacts:
    """Share of images on which teacher and student choose the same class, 0..1.

    Attributes:
        synthetic: on synthetic images held out from training.
        eval: on the evaluation images.
        kl: mean Kullback-Leibler divergence of the student's classes from the teacher's, in nats.
        sqnr_db: signal to quantization noise of the worst output, in decibels.
        outputs: every output, compared by what it is; on evaluation images where there are some.
    """

    synthetic: Interval | None = None
    eval: Interval | None = None
    kl: float | None = None
    sqnr_db: float | None = None
    outputs: tuple[OutputDistance, ...] = ()


@dataclass(frozen=True)
class ParityFacts:
    """Is the file what was trained, and does the runtime compute what the file says?

    Differences are counted where they are born (every quantizer on equal inputs), in levels.

    Attributes:
        off_vs_torch_levels: largest, of the file as written from the torch student.
        off_vs_torch_flips: share of the codes that differ between these two.
        on_vs_off_levels: largest, of the deployed session from the file as written.
        on_vs_off_flips: share of the codes that differ between these two.
        top1_same: share of images on which deployed file and torch student (without one: the file
            as written) choose the same class.
        images: how many were compared.
        eval_same: share of the evaluation images on which deployed file and torch student choose
            the same class.
        eval_images: how many those are.
    """

    off_vs_torch_levels: int | None = None
    off_vs_torch_flips: float | None = None
    on_vs_off_levels: int | None = None
    on_vs_off_flips: float | None = None
    top1_same: float | None = None
    images: int | None = None
    eval_same: float | None = None
    eval_images: int | None = None

    @classmethod
    def of(cls, found: parity.Parity) -> Self:
        """Sum up what validation found."""
        torch = found.off_vs_torch
        same = found.top1_on_vs_torch
        return cls(
            off_vs_torch_levels=None if torch is None else torch.largest,
            off_vs_torch_flips=None if torch is None else torch.fraction,
            on_vs_off_levels=found.on_vs_off.largest,
            on_vs_off_flips=found.on_vs_off.fraction,
            top1_same=found.top1_on_vs_off if same is None else same,
            images=found.images,
        )


@dataclass(frozen=True)
class ImageFacts:
    """Where the training images came from.

    Attributes:
        source: name of the source.
        count: how many.
        batchnorm: state of the teacher's statistics: present, partly, absent.
        guided_by: what steered them, in words.
        divergence: from the training data, as BatchNormalization remembers it, in nats, mean over
            layers (`dfqonnx similarity`); None where the file has no statistics.
    """

    source: str
    count: int
    batchnorm: str
    guided_by: str = ""
    divergence: float | None = None


def widths(quant: QuantizationConfig) -> Widths:
    """Return the part of `quant` that a report tells."""
    return Widths(
        quant.bits.weights, quant.bits.activations, quant.first_last_bits, quant.residual_bits
    )


MOST_PAIRS = 100


@dataclass(frozen=True)
class TrainingLogEntry:
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
        untrained_top1: labeled accuracy before training, in percent; None without labels.
        images_seen: steps times images a step.
    """

    steps: int
    kept: bool
    reason: str = ""
    untrained: Interval | None = None
    untrained_kl: float | None = None
    trained_kl: float | None = None
    history: tuple[TrainingLogEntry, ...] = ()
    untrained_error: float | None = None
    trained_error: float | None = None
    untrained_top1: Interval | None = None
    images_seen: int | None = None


@dataclass(frozen=True)
class ClassesSeen:
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
class ConfusedPair:
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
    pairs: tuple[ConfusedPair, ...]


def disagreement(on: str, classes: Classes | None) -> Disagreement | None:
    """Count the pairs of classes that differ; None without classes."""
    if classes is None:
        return None
    both = list(zip(classes.teacher, classes.student, strict=True))
    counts = Counter(pair for pair in both if pair[0] != pair[1])
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    pairs = tuple(ConfusedPair(teacher, student, count) for (teacher, student), count in ranked)
    return Disagreement(on, len(both), counts.total(), pairs)


Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Measured:
    """What one of the user's rules was held against, in the rule's own unit.

    Attributes:
        value: estimate.
        low: of its interval; the estimate itself where it is exact.
        high: of its interval.
        n: images, turns, or 1 where it is exact.
        needed: how many images would decide an open rule; None where it is decided, or where no
            number of them would.
    """

    value: float
    low: float
    high: float
    n: int
    needed: int | None = None


@dataclass(frozen=True)
class Gate:
    """A rule that must hold: a promise of ours, or one that the user asked for.

    Attributes:
        rule: what it says, such as `no Conv or Gemm in float`, or `drop<=1.0`.
        value: what was found, in words.
        holds: None where the data does not settle it.
        asked: whether the user set it.
        measured: the figures; None for promises, and where nothing was measured.
    """

    rule: str
    value: str
    holds: bool | None
    asked: bool = False
    measured: Measured | None = None


def overall_verdict(gates: tuple[Gate, ...]) -> Verdict:
    """Return the verdict that `gates` add up to."""
    if any(gate.holds is False for gate in gates):
        return "fail"
    return "inconclusive" if any(gate.holds is None for gate in gates) else "pass"
