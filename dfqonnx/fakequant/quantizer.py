"""Learned-step fake quantizers (LSQ; Esser et al., "Learned Step Size Quantization", ICLR 2020).

With qn = lo - zero_point, qp = hi - zero_point and step s > 0:

    v' = s * clip(round_half_even(v / s), qn, qp)
    dv'/dv = 1 where the code was not clipped, else 0
    dv'/ds = round(v / s) - v / s where not clipped, else qn or qp;  times g = 1 / sqrt(N qp)

Summed against an incoming gradient d, with d' = d where not clipped and 0 elsewhere:

    sum d dv'/ds = (<d, v'> - <d', v>) / s

so the backward pass is one masking and two dot products. The division is a true division, as in
ONNX QuantizeLinear; training, evaluation and the exported file therefore round alike. (PyTorch's
own `_fake_quantize_learnable_*` kernels multiply by 1/s and, on CPU, take about five times as
long: their rounding is not vectorized.)

The inner product of two tensors of one shape, without a temporary where memory order allows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dfqonnx.core.quantization import IntegerRange, quantize
from dfqonnx.core.quantization_plan import ActivationParameters, ActivationQuantizer
from dfqonnx.fakequant.step_search import search_activation_scale


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return sum a b, a scalar."""
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
    """How a fake quantizer clips.

    Attributes:
        low: qn, smallest code minus the zero point.
        high: qp, largest code minus the zero point.
        g: factor on the step's gradient.
        rectify: whether a Relu is part of it: nothing passes back to values below 0.
    """

    low: int
    high: int
    g: float = 1.0
    rectify: bool = False


class _PerTensor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, step: Tensor, rule: ScaleGradient) -> Tensor:
        out = (value / step).round_().clamp_(rule.low, rule.high).mul_(step)
        ctx.save_for_backward(value, step, out)
        ctx.rule = rule
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, step, out = ctx.saved_tensors
        low = 0.0 if ctx.rule.rectify else ctx.rule.low - 0.5
        high, g = ctx.rule.high + 0.5, ctx.rule.g
        gradient = _like(gradient, value)
        if value.is_cuda:  # no scalar leaves the device
            inside = (value > low * step) & (value < high * step)
            passed = gradient * inside
        else:
            s = float(step)
            passed = torch.ops.aten.hardtanh_backward(gradient, value, low * s, high * s)
        total = inner(gradient, out) - inner(passed, value)
        return passed, (total * g / step).reshape(step.shape), None


class _PerChannel(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, step: Tensor, rule: ScaleGradient) -> Tensor:
        out = (value / step).round_().clamp_(rule.low, rule.high).mul_(step)
        ctx.save_for_backward(value, step, out)
        ctx.rule = rule
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, step, out = ctx.saved_tensors
        low, high, g = ctx.rule.low - 0.5, ctx.rule.high + 0.5, ctx.rule.g
        inside = (value > low * step) & (value < high * step)
        passed = gradient * inside
        slope = (gradient * out).sub_(passed * value)
        axes = [axis for axis in range(value.dim()) if step.shape[axis] == 1]
        total = slope.sum(axes, keepdim=True) if axes else slope
        return passed, total * g / step, None


def per_tensor(value: Tensor, step: Tensor, rule: ScaleGradient) -> Tensor:
    """Fake-quantize with one step.

    Args:
        value: any shape.
        step: positive scalar tensor, learnable.
        rule: how it clips.
    """
    return _PerTensor.apply(value, step, rule)  # type: ignore[no-any-return, no-untyped-call]


def per_channel(value: Tensor, step: Tensor, rule: ScaleGradient) -> Tensor:
    """Fake-quantize with one step per channel.

    Args:
        value: a weight, for example (O, I, kH, kW).
        step: positive, of the same rank, size 1 on every axis but the channels': (O, 1, 1, 1).
        rule: how it clips.
    """
    return _PerChannel.apply(value, step, rule)  # type: ignore[no-any-return, no-untyped-call]


def gradient_factor(count: int, qp: int) -> float:
    """Return 1 / sqrt(N qp)."""
    return 1.0 / math.sqrt(max(1, count) * max(1, qp))


class FakeQuantizer(nn.Module):
    """A learned-step quantizer on an activation.

    The parameter is the logarithm of the step: it stays positive and one learning rate fits every
    site. `watcher`, when set, is called with what arrives; a watcher that returns a tensor decides
    what leaves (initialization uses this).

    Attributes:
        site: the decision that it carries out.
        rectify: whether it stands for the Relu (or the Clip of its ceiling) before it, too.
        log_step: scalar parameter.
    """

    def __init__(self, site: ActivationQuantizer, *, rectify: bool = False) -> None:
        super().__init__()
        self.site = site
        self.rectify = rectify
        self.log_step = nn.Parameter(torch.zeros(()))
        self.watcher: Any = None

    def step(self) -> Tensor:
        """Return the step, a positive scalar tensor."""
        return self.log_step.exp()

    @torch.no_grad()
    def set_step(self, step: float) -> None:
        """Set the step."""
        self.log_step.fill_(math.log(max(step, 1e-12)))

    def settle(self, samples: Tensor) -> None:
        """Set the step by grid search over `samples`."""
        self.set_step(search_activation_scale(samples, lambda step: capped(self.site, step)))

    def grid(self) -> IntegerRange:
        """Return the grid with the ceiling applied: hi = min(hi, rint(ceiling / step) + zp)."""
        return capped(self.site, float(self.step().detach()))

    def forward(self, value: Tensor) -> Tensor:
        """Return `value` on the grid."""
        if self.watcher is not None:
            value = value.clamp(0.0, self.site.clip_max) if self.rectify else value
            answer = self.watcher(value)
            if answer is not None:
                return answer  # type: ignore[no-any-return]
        step = self.step()
        grid = self.site.grid if self.site.clip_max is None else self.grid()
        low, high = grid.limits
        count = value.numel() // max(1, value.shape[0] if value.dim() else 1)
        g = gradient_factor(count, high)
        return per_tensor(value, step, ScaleGradient(low, high, g, self.rectify))

    @torch.no_grad()
    def codes(self, value: Tensor) -> Tensor:
        """Return the codes of `value`: int8 where they may be below 0, else uint8."""
        grid = self.grid()
        kind = torch.int8 if grid.lo < 0 else torch.uint8
        return quantize(value, self.step(), grid).to(kind)  # type: ignore[no-any-return]

    def params(self) -> ActivationParameters:
        """Return what `forward` uses."""
        grid = self.grid()
        return ActivationParameters(float(self.step().detach()), grid.zero_point, grid.lo, grid.hi)


def capped(site: ActivationQuantizer, step: float) -> IntegerRange:
    """Return the site's grid under its ceiling for a given step."""
    grid = site.grid
    if site.clip_max is None or math.isinf(site.clip_max):
        return grid
    top = int((torch.tensor(site.clip_max) / torch.tensor(step)).round()) + grid.zero_point
    hi = max(grid.zero_point + 1, min(grid.hi, top))
    return replace(grid, hi=hi)
