"""The parts of a report: files, bit widths, agreement, parity, images, training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Self

from dfqonnx.core.quantization import NodeRules, QuantizationConfig
from dfqonnx.evaluation.code_mismatches import CodeMismatches
from dfqonnx.evaluation.outputs import Classes, OutputDistance
from dfqonnx.evaluation.parity import Parity
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.number_format import format_count

MAX_PAIRS = 100


@dataclass(frozen=True)
class ModelFacts:
    """The float file or the quantized file, whose path is relative to the output folder.

    `bytes` includes external data; `top1` is the labeled accuracy in percent.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    top1: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class BitFacts:
    """Bits of the weights of every Conv, Gemm and MatMul, and of their inputs.

    The convention is that of the README, section Conventions.

    Attributes:
        first_last: weight bits of the first and last layer; None when they have those of the rest.
        residual: bits of elementwise operands, the network's input and the classifier's input.
        keep_float: names, patterns and operators that were kept in float as asked.
        bits_for: `PATTERN=w8a8`, the widths that were asked for some.
    """

    weights: int
    activations: int
    first_last: int | None = None
    residual: int = 8
    keep_float: tuple[str, ...] = ()
    bits_for: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The short form, `W4A8`."""
        return f"W{self.weights}A{self.activations}"

    @classmethod
    def of(cls, quant: QuantizationConfig, rules: NodeRules) -> Self:
        """Return the bit widths of a configuration, and the rules for some nodes."""
        return cls(
            weights=quant.bits.weights,
            activations=quant.bits.activations,
            first_last=quant.first_last_bits,
            residual=quant.elementwise_bits,
            keep_float=rules.keep_float,
            bits_for=tuple(f"{pattern}={bits.label}" for pattern, bits in rules.bits_for),
        )


@dataclass(frozen=True, kw_only=True)
class AgreementFacts:
    """How close the student's outputs are to the teacher's.

    Attributes:
        synthetic, evaluation: shares of these images with the teacher's class, 0..1.
        kl: largest mean Kullback-Leibler divergence of an output's classes, in nats.
        sqnr_db: what varies with the input over the noise, of the worst output, in decibels.
        outputs: every output, compared by its kind; on evaluation images where there are some.
        images: how many images `kl`, `sqnr_db` and `outputs` were compared on.
        image_set: which ones: evaluation or synthetic; empty where nothing was compared.
    """

    synthetic: Interval | None = None
    evaluation: Interval | None = None
    kl: float | None = None
    sqnr_db: float | None = None
    outputs: tuple[OutputDistance, ...] = ()
    images: int = 0
    image_set: str = ""

    @property
    def best_known(self) -> Interval | None:
        """The share on evaluation images; without them, that on synthetic images."""
        return self.evaluation or self.synthetic

    @property
    def best_known_set(self) -> str:
        """The images that `best_known` is a share of, in words."""
        return f"{'evaluation' if self.evaluation is not None else 'synthetic'} images"


@dataclass(frozen=True)
class MismatchFacts:
    """Codes that differ between two executions on equal inputs: their share, the largest one."""

    fraction: float
    largest: int

    @classmethod
    def of(cls, found: CodeMismatches) -> Self:
        """Sum up the mismatches of all quantizers."""
        return cls(found.fraction, found.largest)

    def __str__(self) -> str:
        """Return one clause."""
        if not self.largest:
            return "no code differs"
        levels = format_count(self.largest, "level")
        return f"{self.fraction:.1e} of the codes mismatch, by at most {levels}"


@dataclass(frozen=True, kw_only=True)
class ParityFacts:
    """Trained student, file as written (without optimizations) and file as deployed (with all).

    Attributes:
        written_vs_trained: None without a torch student.
        same_class: share of the compared images on which the deployed file and the torch student
            (without one: the written file) choose the same class.
        evaluation_same_class: the same share of `evaluation_images`, always with the student.
    """

    written_vs_trained: MismatchFacts | None = None
    deployed_vs_written: MismatchFacts | None = None
    same_class: float | None = None
    images: int | None = None
    evaluation_same_class: float | None = None
    evaluation_images: int | None = None

    @classmethod
    def of(cls, found: Parity) -> Self:
        """Sum up the comparison of the three executions."""
        trained, same = found.off_vs_torch, found.top1_on_vs_torch
        return cls(
            written_vs_trained=None if trained is None else MismatchFacts.of(trained),
            deployed_vs_written=MismatchFacts.of(found.on_vs_off),
            same_class=found.top1_on_vs_off if same is None else same,
            images=found.images,
        )


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Where the training images came from.

    Attributes:
        batchnorm: state of the teacher's BatchNorm statistics: present, partly, absent.
        guided_by: how the source made the images, in words.
        divergence: from the training data, in nats, mean over layers (`dfqonnx similarity`); None
            where the file has no BatchNorm statistics.
        own: images of the user that joined the synthetic ones in the work, without labels.
    """

    source: str
    count: int
    batchnorm: str
    own: int = 0
    guided_by: str = ""
    divergence: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingLogEntry:
    """Training after `step` steps.

    `loss` is the mean since the last entry, `lr_factor` the learning rate over its peak, and
    `rounding_temperature` the width of the soft rounding between two codes, 1 to 0.
    """

    step: int
    seconds: float
    loss: float
    lr_factor: float
    rounding_temperature: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """How the student was trained.

    The `untrained` figures belong to the initialized student, which is plain post-training
    quantization of the same size and speed; agreement, KL and error are measured on held-out
    synthetic images.

    Attributes:
        kept: whether the trained student was exported; otherwise the untrained one was.
        reason: why it was not, or why training ended early.
        untrained_agreement: share of images with the teacher's class, 0..1.
        untrained_kl, trained_kl: divergence from the teacher, in nats.
        untrained_error, trained_error: power of the error of outputs without classes, over the
            teacher's power.
        untrained_top1: labeled accuracy, in percent.
        images_seen: optimizer steps times batch size.
    """

    steps: int
    kept: bool
    reason: str = ""
    untrained_agreement: Interval | None = None
    untrained_kl: float | None = None
    trained_kl: float | None = None
    log: tuple[TrainingLogEntry, ...] = ()
    untrained_error: float | None = None
    trained_error: float | None = None
    untrained_top1: Interval | None = None
    images_seen: int | None = None


@dataclass(frozen=True)
class HeldOutClasses:
    """Both models' classes of the held-out images, with their indices in `synthetic/images.npz`."""

    images: tuple[int, ...]
    teacher: tuple[int, ...]
    student: tuple[int, ...]


@dataclass(frozen=True)
class ConfusedPair:
    """On how many images the teacher chooses one class and the student another."""

    teacher: int
    student: int
    count: int


@dataclass(frozen=True)
class Disagreement:
    """Images on which teacher and student choose different classes.

    `pairs` holds at most 100 pairs of classes, the most frequent first.
    """

    image_set: str  # evaluation or synthetic
    images: int
    differing: int
    pairs: tuple[ConfusedPair, ...]


def count_disagreements(image_set: str, classes: Classes | None) -> Disagreement | None:
    """Count the pairs of classes that differ; None without classes."""
    if classes is None:
        return None
    both = list(zip(classes.teacher, classes.student, strict=True))
    counts = Counter(pair for pair in both if pair[0] != pair[1])
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_PAIRS]
    pairs = tuple(ConfusedPair(teacher, student, count) for (teacher, student), count in ranked)
    return Disagreement(image_set, len(both), counts.total(), pairs)
