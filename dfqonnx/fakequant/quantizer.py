"""Learned-step fake quantizers (LSQ; Esser et al., "Learned Step Size Quantization", ICLR 2020).

With qn = lo - zero_point, qp = hi - zero_point and scale s > 0:

    v' = s * clip(round_half_even(v / s), qn, qp)
    dv'/dv = 1 where the code was not clipped, else 0
    dv'/ds = round(v / s) - v / s where not clipped, else qn or qp;  times g = 1 / sqrt(N qp)

Summed against an incoming gradient d, with d' = d where not clipped and 0 elsewhere:

    sum d dv'/ds = (<d, v'> - <d', v>) / s

so the backward pass is one masking and two dot products. The division is a true division, as in
ONNX QuantizeLinear; training, evaluation and the exported file therefore round alike. (PyTorch's
own `_fake_quantize_learnable_*` kernels multiply by 1/s and, on CPU, take about five times as
long: their rounding is not vectorized.)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dfqonnx.core.quantization import (
    SMALLEST_SCALE,
    IntegerRange,
    fake_quantize,
    quantize,
    whole_exponents,
)
from dfqonnx.core.quantization_plan import ActivationParameters, ActivationQuantizer
from dfqonnx.fakequant.observed_values import WeightedValues
from dfqonnx.fakequant.scale_search import (
    next_power_of_two,
    search_activation_range,
    search_activation_scale,
    search_unit_steps,
)

CONTAINERS = {
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.uint16,
}


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return sum a b, a scalar, without a temporary where memory order allows."""
    if a.stride() == b.stride():
        if a.is_contiguous():
            return torch.dot(a.reshape(-1), b.reshape(-1))
        if a.dim() == 4 and a.is_contiguous(memory_format=torch.channels_last):
            return torch.dot(a.permute(0, 2, 3, 1).reshape(-1), b.permute(0, 2, 3, 1).reshape(-1))
    return (a * b).sum()


def _like(gradient: Tensor, value: Tensor) -> Tensor:
    """Give a gradient the memory order of the value it belongs to."""
    if gradient.stride() == value.stride():
        return gradient
    return torch.empty_like(value).copy_(gradient)


class ScaleGradient(NamedTuple):
    """How a fake quantizer clips and how its scale learns."""

    low: int  # qn, the smallest code minus the zero point
    high: int  # qp, the largest code minus the zero point
    g: float = 1.0  # factor on the scale's gradient
    rectify: bool = False  # a Relu is part of it: nothing passes back to values below 0


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor, rule: ScaleGradient) -> Tensor:
        out = fake_quantize(value, scale, (rule.low, rule.high))
        ctx.save_for_backward(value, scale, out)
        ctx.rule = rule
        return out


class _PerTensor(_FakeQuantize):
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, scale, out = ctx.saved_tensors
        low = 0.0 if ctx.rule.rectify else ctx.rule.low - 0.5
        high, g = ctx.rule.high + 0.5, ctx.rule.g
        gradient = _like(gradient, value)
        if value.is_cuda:  # no scalar leaves the device
            inside = (value > low * scale) & (value < high * scale)
            passed = gradient * inside
        else:
            s = float(scale)
            passed = torch.ops.aten.hardtanh_backward(gradient, value, low * s, high * s)
        total = dot(gradient, out) - dot(passed, value)
        return passed, (total * g / scale).reshape(scale.shape), None


class _PerChannel(_FakeQuantize):
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, scale, out = ctx.saved_tensors
        low, high, g = ctx.rule.low - 0.5, ctx.rule.high + 0.5, ctx.rule.g
        inside = (value > low * scale) & (value < high * scale)
        passed = gradient * inside
        slope = (gradient * out).sub_(passed * value)
        return passed, sum_per_channel(slope, scale) * g / scale, None


def sum_per_channel(value: Tensor, scale: Tensor) -> Tensor:
    """Return the sum of `value` over the axes where `scale`, of the same rank, has size 1."""
    axes = [axis for axis in range(value.dim()) if scale.shape[axis] == 1]
    return value.sum(axes, keepdim=True) if axes else value


def per_tensor(value: Tensor, scale: Tensor, rule: ScaleGradient) -> Tensor:
    """Fake-quantize a value of any shape with one positive scale, which is learnable."""
    return _PerTensor.apply(value, scale, rule)  # type: ignore[no-any-return, no-untyped-call]


def per_channel(value: Tensor, scale: Tensor, rule: ScaleGradient) -> Tensor:
    """Fake-quantize with one positive scale per channel: (O, 1, 1, 1) for (O, I, kH, kW)."""
    return _PerChannel.apply(value, scale, rule)  # type: ignore[no-any-return, no-untyped-call]


def gradient_factor(count: int, qp: int) -> float:
    """Return 1 / sqrt(N qp)."""
    return 1.0 / math.sqrt(max(1, count) * max(1, qp))


def nearest_power_of_two(log_scale: Tensor) -> Tensor:
    """Return the powers of two nearest to scales, from their natural logarithms."""
    return torch.exp2(whole_exponents(log_scale / math.log(2.0)))


class FakeQuantizer(nn.Module):
    """A learned-step quantizer on an activation.

    The parameter is the logarithm of the scale: the scale stays positive and one learning rate fits
    every quantizer.
    """

    def __init__(self, spec: ActivationQuantizer, *, rectify: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.rectify = rectify  # it stands for the Relu (or the Clip with its bound) before it, too
        self.enabled = True  # while its scale is unknown, values pass as they are
        free = not spec.power_of_two and spec.fixed_scale is None
        self.log_scale = nn.Parameter(torch.zeros(()), requires_grad=free)
        self.zero_point = spec.grid.zero_point  # calibration sets it where the plan leaves it open

    def scale(self) -> Tensor:
        """Return the scale, a positive scalar tensor.

        A `unit` divided by a whole number is rounded to one, and the gradient passes.
        """
        if self.spec.fixed_scale is not None:
            return torch.full_like(self.log_scale, self.spec.fixed_scale)
        if self.spec.power_of_two:
            return nearest_power_of_two(self.log_scale)
        scale = self.log_scale.exp()
        if self.spec.unit is None:
            return scale
        whole = self.spec.unit / self.spec.steps(float(scale.detach()))
        return whole * (scale / scale.detach())

    @torch.no_grad()
    def set_scale(self, scale: float) -> None:
        """Set the scale; to a power of two near it, or not at all, where the plan asks for that."""
        self.log_scale.fill_(math.log(max(scale, 1e-12)))

    def calibrate(self, seen: WeightedValues) -> None:
        """Set the scale, and the zero point where it is open, from values that arrive here."""
        spec = self.spec
        if spec.fixed_scale is not None:
            return
        if spec.unit is not None:  # the only reader makes the same of all values below it
            seen = replace(seen, values=seen.values.clamp_min(-spec.unit))
        if spec.asymmetric and spec.unit is not None:
            scale = spec.unit / search_unit_steps(seen, spec.grid, spec.unit)
        elif spec.asymmetric:
            scale, grid = search_activation_range(seen, spec.grid)
            self.zero_point = grid.zero_point
        else:
            scale = search_activation_scale(
                seen,
                lambda s: spec.grid.below(spec.clip_max, s),
                power_of_two=spec.power_of_two,
            )
        self.set_scale(scale)

    def set_range(self, low: float, high: float) -> None:
        """Let the codes reach from `low` to `high`, or beyond where the zero point is not open."""
        low, high = min(low, 0.0), max(high, 0.0)
        if self.spec.asymmetric and self.spec.unit is not None:
            scale = (high + self.spec.unit) / (self.spec.grid.hi - self.spec.grid.lo)
        elif self.spec.asymmetric:
            scale, grid = self.spec.grid.spanning(low, high)
            self.zero_point = grid.zero_point
        else:
            low = low if self.spec.unit is None else max(low, -self.spec.unit)
            least, most = self.spec.grid.limits
            scale = max(high / most, low / least if least else 0.0, SMALLEST_SCALE)
            if self.spec.power_of_two:
                scale = float(next_power_of_two(torch.tensor(scale)))
        self.set_scale(scale)

    def grid(self) -> IntegerRange:
        """Return the integers of the plan that are not above the upper bound of a fused Clip."""
        if self.spec.unit is not None:
            grid = self.spec.grid_of_unit(float(self.scale().detach()))
        else:
            grid = replace(self.spec.grid, zero_point=self.zero_point)
        if self.spec.clip_max is None:
            return grid
        return grid.below(self.spec.clip_max, float(self.scale().detach()))

    def rectified(self, value: Tensor) -> Tensor:
        """Return `value` behind the Relu or Clip that the quantizer stands for."""
        return value.clamp(0.0, self.spec.clip_max) if self.rectify else value

    def forward(self, value: Tensor) -> Tensor:
        """Return `value` on the grid."""
        if not self.enabled:
            return self.rectified(value)
        scale = self.scale()
        low, high = self.grid().limits
        count = value.numel() // max(1, value.shape[0] if value.dim() else 1)
        g = gradient_factor(count, max(high, -1 - low))
        return per_tensor(value, scale, ScaleGradient(low, high, g, self.rectify))

    @torch.no_grad()
    def codes(self, value: Tensor) -> Tensor:
        """Return the codes of `value` in the container of the grid."""
        grid = self.grid()
        return quantize(value, self.scale(), grid).to(CONTAINERS[grid.dtype.name])

    def params(self) -> ActivationParameters:
        """Return what `forward` uses."""
        grid = self.grid()
        scale = float(self.scale().detach())
        return ActivationParameters(scale, grid.zero_point, grid.lo, grid.hi)
