"""How a student is made before its first training step, and how it is trained.

    losses: {kd: 1.0, features: 4.0}
    optimizer: {kind: adam, rounding: soft, ...}      (`OptimizerConfig`)

The quantizer is the same for every recipe: learned scales per output channel of a weight and per
activation tensor. A scale times the largest code is a clip: papers with learned clips train the
same parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from dfqonnx.config.bounds import check_fractions, check_least, check_milestones, check_positive
from dfqonnx.config.loss_terms import STUDENT_LOSSES, LossTerm, read_terms
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.errors import UsageError

Ranges = Literal["images", "batchnorm"]


@dataclass(frozen=True, kw_only=True)
class EqualizationConfig:
    """What makes a network easier to quantize, without looking at any image.

    All but `activation_balancing` is from Nagel et al. (ICCV 2019).

    Attributes:
        activation_balancing: how far channels that share an activation scale of fewer than 8 bits
            are brought to one range, from 0 (not at all) to 1 (wholly); the outputs of the float
            network stay the same.
        cross_layer: give neighboring layers equal ranges, channel by channel; a ReLU6 becomes a
            ReLU where BatchNormalization says that next to nothing lies above 6.
        bias_absorption: move high biases on to the next layer, where BatchNormalization knows
            them; needs `cross_layer`.
        bias_correction: shift every bias by what rounding the weights does to the mean of the
            output; means come from BatchNormalization, else from the images.
        activation_ranges: what sets the activations' ranges: a search on `images`, or mean +- 6
            deviations of `batchnorm` statistics, and images only where there are none.
    """

    activation_balancing: float = 0.3
    cross_layer: bool = False
    bias_absorption: bool = False
    bias_correction: bool = False
    activation_ranges: Ranges = "images"

    def __post_init__(self) -> None:
        check_fractions(self, "equalization", "activation_balancing")
        if self.bias_absorption and not self.cross_layer:
            raise UsageError("equalization.bias_absorption: needs cross_layer: true beside it")


Kind = Literal["adam", "sgd", "muon"]
LRSchedule = Literal["cosine", "constant", "steps"]
Rounding = Literal["soft", "ste", "held"]


@dataclass(frozen=True)
class LearningRates:
    """Peak learning rates of the three kinds of parameters."""

    weights: float
    biases: float
    scales: float

    def times(self, factor: float) -> LearningRates:
        """Return all of them, times a factor."""
        return LearningRates(factor * self.weights, factor * self.biases, factor * self.scales)


MUON_CODE_LR = 8e-3  # of soft rounding, where Muon moves the codes
LEARNING_RATES: dict[Rounding, LearningRates] = {
    "soft": LearningRates(3e-2, 1e-2, 1e-2),
    "ste": LearningRates(4e-4, 4e-4, 4e-3),
    "held": LearningRates(2e-3, 2e-3, 2e-3),
}


def _student_terms(values: Any) -> tuple[LossTerm, ...]:
    return read_terms(values, STUDENT_LOSSES, where="distillation.losses")


StudentTerms = Annotated[tuple[LossTerm, ...], BeforeValidator(_student_terms)]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer of the student's parameters.

    Attributes:
        kind: adam, sgd, or muon, whose steps are orthogonal matrices (`distill/muon`) for weights
            that are matrices, and Adam's for all else; None becomes muon where rounding is `soft`,
            else adam. Where `steps` is left open, adam takes the place of muon in steps of fewer
            than 64 images.
        rounding: `soft` trains codes that become whole numbers on the way
            (`fakequant/soft_rounding`); `ste` rounds from the first step on and lets gradients pass
            straight through (LSQ), as most papers do; `held` leaves the codes where they are and
            trains scales and biases.
        weight_lr: peak learning rate of weights: `soft` counts them in codes, `ste` in their own
            unit, and `held` does not train them; None becomes 8e-3 (`soft` by muon),
            3e-2 (`soft` by another kind), 4e-4 or 2e-3. Under muon it is the root mean square of
            what weights move in a step, and those of a depthwise Conv have `bias_lr`.
        bias_lr: peak learning rate of biases: `soft` and `held` count them in tenths of an output's
            deviation, `ste` in their own unit; None becomes `weight_lr` where that is given, else
            1e-2, 4e-4 or 2e-3.
        scale_lr: peak learning rate of the logarithmic scales; None becomes 1e-2, 4e-3 or 2e-3.
        momentum: momentum of sgd, on weights and biases.
        nesterov: whether that momentum is Nesterov's, or plain.
        weight_decay: weight decay, on weights only.
        warmup: fraction of the schedule over which the rates rise.
        lr_schedule: how the rates fall: along a cosine, not at all, or by 10 at each milestone.
        milestones: fractions of the schedule.
        min_lr_ratio: final rate over peak rate of a cosine.
        max_grad_norm: largest gradient norm; 0 does not clip.
    """

    kind: Kind | None = None
    rounding: Rounding = "soft"
    weight_lr: float | None = None
    bias_lr: float | None = None
    scale_lr: float | None = None
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    warmup: float = 0.1
    lr_schedule: LRSchedule = "cosine"
    milestones: tuple[float, ...] = ()
    min_lr_ratio: float = 0.01
    max_grad_norm: float = 0.0

    def __post_init__(self) -> None:
        if self.kind is None:
            object.__setattr__(self, "kind", "muon" if self.rounding == "soft" else "adam")
        usual = LEARNING_RATES[self.rounding]
        by_muon = self.rounding == "soft" and self.kind == "muon"
        for key, rate in (
            ("bias_lr", usual.biases if self.weight_lr is None else self.weight_lr),
            ("weight_lr", MUON_CODE_LR if by_muon else usual.weights),
            ("scale_lr", usual.scales),
        ):
            if getattr(self, key) is None:
                object.__setattr__(self, key, rate)
        where = "distillation.optimizer"
        check_positive(self, where, "weight_lr", "bias_lr", "scale_lr")
        check_least(self, where, max_grad_norm=0, weight_decay=0)
        check_fractions(self, where, "warmup", "min_lr_ratio", "momentum")
        check_milestones(self.milestones, where)

    def lr_factor(self, done: float) -> float:
        """Return the learning rate over its peak when a fraction `done` of the steps is over."""
        return lr_factor(
            done,
            self.lr_schedule,
            milestones=self.milestones,
            warmup=self.warmup,
            min_ratio=self.min_lr_ratio,
        )

    def rates(self) -> LearningRates:
        """Return the peak learning rates."""
        assert self.weight_lr is not None
        assert self.bias_lr is not None
        assert self.scale_lr is not None
        return LearningRates(self.weight_lr, self.bias_lr, self.scale_lr)


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Distillation of the teacher into the student.

    Attributes:
        steps: training steps; 0 trains nothing; None decides from multiply-adds and bits.
        budget_scale: steps relative to what the model, its bits and its agreement suggest, where
            `steps` is left open.
        needs_training_kl: nats that an untrained classifier is off its teacher by, up to which it
            is left untrained where `steps` is left open; 0 trains all but what has eight bits.
        batch_size: images per step; at most 64 where `steps` is left open, fewer where memory is
            short.
        temperature: T of the distillation losses.
        losses: name -> weight.
        optimizer: optimizer, learning rates and rounding.
        flip: mirror images left to right.
        shift: largest shift, as a fraction of the image's side.
        mixup: fraction of images blended with another one.
        perturb: how far images are moved, in every normalized pixel, to where the student errs
            more, to train on these as well (HAST); 0 does not.
        weight_averaging: fraction of the schedule, at its end, whose parameters are averaged.
        holdout_images: images kept from training to measure agreement with the teacher.
        guard_images: dead-leaves images on which training must not move the student away from its
            teacher; 0 checks none.
        calibration_images: images that initialize the scales.
        probe_probability: that real inputs drive activations like probes (noise, structured fields,
            dead leaves, inputs sought by gradients) and not like synthetic images; ranges take both
            into account, see `fakequant/observed_values`. 0 leaves probes out.
        gptq_damping: candidates for GPTQ before training; the one that agrees best on held-out
            images is kept; none skips GPTQ.
    """

    steps: int | None = None
    budget_scale: float = 1.0
    needs_training_kl: float = 0.0
    batch_size: int = 128
    temperature: float = 4.0
    losses: StudentTerms = (LossTerm("kd", 1.0), LossTerm("features", 4.0))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    flip: bool = True
    shift: float = 0.125
    mixup: float = 0.5
    perturb: float = 0.0
    weight_averaging: float = 0.0
    holdout_images: int = 256
    guard_images: int = 0
    calibration_images: int = 512
    probe_probability: float = 0.05
    gptq_damping: tuple[float, ...] = (0.1, 0.3, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "losses", _student_terms(self.losses))
        check_least(
            self,
            "distillation",
            steps=0,
            needs_training_kl=0,
            holdout_images=0,
            perturb=0,
            guard_images=0,
        )
        check_positive(self, "distillation", "batch_size", "temperature", "calibration_images")
        check_fractions(self, "distillation", "mixup", "weight_averaging", "probe_probability")
        if not 0 < self.budget_scale <= 100:
            raise UsageError(
                f"distillation.budget_scale {self.budget_scale}: must be above 0, 100 at most"
            )
        if any(d <= 0 for d in self.gptq_damping):
            raise UsageError(
                f"distillation.gptq_damping {list(self.gptq_damping)}: every value must be above 0"
            )
        if not 0 <= self.shift < 0.5:
            raise UsageError(f"distillation.shift {self.shift}: must be in 0..0.5, 0.5 excluded")
