"""What every value is expected to be on the training data: from statistics, without any image.

Values are read as Gaussians where a layer writes them, channels and summands as independent:

    network input           mean 0.45, deviation 0.25 of the pixels' range, as photographs have
    BatchNormalization      what it remembers: N(beta, gamma^2)
    Relu, Clip(0, c)        x ~ N(m, v), a = m / s:  E = m Phi(a) + s phi(a), less what c cuts off
    Add                     means and variances add
    average pooling         keeps the mean
    MaxPool, anything else  not known

The range of a value is mean +- 6 deviations (beta +- 6 gamma), cut where Relu or Clip cuts.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.2 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.graph.op_traits import Trait, has_trait

DEVIATIONS = 6.0
PHOTO_MEAN, PHOTO_DEVIATION = 0.45, 0.25  # of pixels in 0..1


@dataclass(frozen=True)
class ActivationMoments:
    """One value, per channel, each (C,)."""

    mean: Tensor  # E[x]
    variance: Tensor  # E[x^2] - E[x]^2
    low: Tensor  # where its range begins
    high: Tensor  # where it ends

    @classmethod
    def gaussian(cls, mean: Tensor, variance: Tensor) -> ActivationMoments:
        """Return N(mean, variance), its range mean +- 6 deviations."""
        spread = DEVIATIONS * variance.sqrt()
        return cls(mean, variance, mean - spread, mean + spread)

    def clipped(self, clip_max: float) -> ActivationMoments:
        """Return min(max(x, 0), clip_max) of a Gaussian; `clip_max` may be infinite."""
        mean, second = rectified_moments(self.mean, self.variance)
        if math.isfinite(clip_max):
            over, over2 = rectified_moments(self.mean - clip_max, self.variance)
            mean, second = mean - over, second - over2 - 2 * clip_max * over
        variance = (second - mean.square()).clamp_min(0)
        low, high = self.low.clamp(0, clip_max), self.high.clamp(0, clip_max)
        return ActivationMoments(mean, variance, low, high)

    def plus(self, other: ActivationMoments) -> ActivationMoments:
        """Return the sum, as a Gaussian within the sum of both ranges."""
        total = ActivationMoments.gaussian(self.mean + other.mean, self.variance + other.variance)
        low, high = self.low + other.low, self.high + other.high
        return ActivationMoments(
            total.mean, total.variance, total.low.maximum(low), total.high.minimum(high)
        )


def rectified_moments(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[y] and E[y^2] of y = max(x, 0), x ~ N(mean, variance).

    E[y] = m Phi(a) + s phi(a) and E[y^2] = (m^2 + v) Phi(a) + m s phi(a), with a = m / s.
    """
    deviation = variance.clamp_min(1e-24).sqrt()
    a = mean / deviation
    density = torch.exp(-0.5 * a.square()) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(a)
    first = mean * below + deviation * density
    return first, (mean.square() + variance) * below + mean * deviation * density


def propagate_moments(
    program: Program, statistics: Mapping[str, ChannelStatistics], inputs: InputFormat
) -> dict[str, ActivationMoments]:
    """Return what is known of a folded network, by value name; double precision."""
    found: dict[str, ActivationMoments] = {}
    if inputs.is_image and len(program.inputs) == 1:
        found[program.inputs[0]] = input_moments(inputs)
    for step in program.steps:
        name = str(step.outputs[0])
        known = statistics.get(name)
        if known is not None:
            mean, variance = torch.as_tensor(known.mean), torch.as_tensor(known.variance)
            found[name] = ActivationMoments.gaussian(mean.double(), variance.double())
            continue
        value = _propagate(step, found, program)
        if value is not None:
            found[name] = value
    return found


def input_moments(inputs: InputFormat) -> ActivationMoments:
    """Return what the network's input is on photographs; its range is that of the pixels."""
    ranges = [inputs.preprocessing.range(channel) for channel in range(inputs.image_size[2])]
    low, high = torch.tensor(ranges, dtype=torch.float64).unbind(1)
    mean, spread = low + PHOTO_MEAN * (high - low), PHOTO_DEVIATION * (high - low)
    return ActivationMoments(mean, spread.square(), low, high)


def _propagate(
    step: OpCall, found: Mapping[str, ActivationMoments], program: Program
) -> ActivationMoments | None:
    """Return the moments of what a node writes; None where they are not known."""
    names = list(step.reads())
    if not names or names[0] not in found:
        return None
    value = found[names[0]]
    if step.op == "Add" and len(names) == 2 and names[1] in found:
        other = found[names[1]]
        return value.plus(other) if value.mean.shape == other.mean.shape else None
    if step.op == "Clip":
        bounds = [program.tensors.get(name) for name in names[1:]]
        if bounds and bounds[0] is not None and float(bounds[0]) == 0:
            upper = bounds[1] if len(bounds) > 1 else None
            return value.clipped(math.inf if upper is None else float(upper))
        return None
    if step.op == "Relu":
        return value.clipped(math.inf)
    keeps = has_trait(step.op, Trait.MEAN_PRESERVING) or (
        step.op == "Transpose" and names[0] in program.inputs
    )
    return value if keeps else None  # Flatten: repeated where it is read
