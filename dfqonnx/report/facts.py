"""Parts of a report: the two files, widths, agreement, parity, training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dfqonnx.spec.quant import QuantSpec
from dfqonnx.validate import parity
from dfqonnx.validate.accuracy import Bounded
from dfqonnx.validate.outputs import OutputDistance


@dataclass(frozen=True)
class ModelFacts:
    """One of the two files.

    Attributes:
        path: where it lies; of the student, relative to the output folder.
        sha256: of the file's bytes.
        bytes: size, external data counted in.
        top1: labelled accuracy in percent, with Wilson bounds.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    top1: Bounded | None = None


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
class Agreement:
    """Share of images on which teacher and student choose the same class, 0..1.

    Attributes:
        synthetic: on synthetic images held out from training.
        eval: on the evaluation images.
        kl: mean Kullback-Leibler divergence of the student's classes from the teacher's, in nats.
        sqnr_db: signal to quantization noise of the worst output, in decibels.
        outputs: every output, compared by what it is; on evaluation images where there are some.
    """

    synthetic: Bounded | None = None
    eval: Bounded | None = None
    kl: float | None = None
    sqnr_db: float | None = None
    outputs: tuple[OutputDistance, ...] = ()


@dataclass(frozen=True)
class Parity:
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
class Images:
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


def widths(quant: QuantSpec) -> Widths:
    """Return the part of `quant` that a report tells."""
    return Widths(quant.bits.weights, quant.bits.activations, quant.ends, quant.stream)
