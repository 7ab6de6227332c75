"""How the student is trained."""

from __future__ import annotations

from dataclasses import dataclass

from dfqonnx.errors import UsageError


@dataclass(frozen=True)
class DistillSpec:
    """Distillation of the teacher into the student.

    Attributes:
        steps: training steps; 0 trains nothing; None decides from multiply-adds and bits.
        batch: images per step.
        weight_rate: peak learning rate of weights and biases (Adam).
        step_rate: peak learning rate of the quantizers' logarithmic steps.
        warmup: fraction of the schedule that the rates rise over.
        floor: final rate over peak rate.
        clip: largest gradient norm; 0 does not clip.
        temperature: T of the distillation loss.
        kd: weight of KL(teacher || student) T^2.
        logits: weight of the logits' mean squared error.
        features: weight of the blocks' normalised error.
        flip: mirror images left to right.
        shift: largest shift, as a fraction of the image's side.
        mixup: fraction of images blended with another one.
        average: fraction of the schedule, at its end, whose parameters are averaged.
        holdout: images kept from training to measure agreement with the teacher.
        calibration: images that set the quantizers' first steps.
        damping: candidates for the layer-wise reconstruction before training, the one that agrees
            best on held-out images is kept; none skips it.
    """

    steps: int | None = None
    batch: int = 128
    weight_rate: float = 4e-4
    step_rate: float = 4e-3
    warmup: float = 0.1
    floor: float = 0.01
    clip: float = 0.0
    temperature: float = 4.0
    kd: float = 1.0
    logits: float = 0.0
    features: float = 1.0
    flip: bool = True
    shift: float = 0.125
    mixup: float = 0.5
    average: float = 0.0
    holdout: int = 256
    calibration: int = 512
    damping: tuple[float, ...] = (0.1, 0.3, 1.0)

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 0:
            raise UsageError(f"distill.steps {self.steps}: must be 0 or more")
        positive = ("batch", "weight_rate", "step_rate", "temperature", "calibration")
        for key in positive:
            if getattr(self, key) <= 0:
                raise UsageError(f"distill.{key} {getattr(self, key)}: must be above 0")
        for key in ("clip", "kd", "logits", "features", "holdout"):
            if getattr(self, key) < 0:
                raise UsageError(f"distill.{key} {getattr(self, key)}: must be 0 or more")
        for key in ("warmup", "floor", "mixup", "average"):
            if not 0 <= getattr(self, key) <= 1:
                raise UsageError(f"distill.{key} {getattr(self, key)}: must be in 0..1")
        if any(d <= 0 for d in self.damping):
            raise UsageError(f"distill.damping {list(self.damping)}: every value must be above 0")
        if not 0 <= self.shift < 0.5:
            raise UsageError(f"distill.shift {self.shift}: must be in 0..0.5, 0.5 excluded")
