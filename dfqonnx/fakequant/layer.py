"""A Conv, Gemm or MatMul whose weight and bias stand on integer grids.

    w'[c] = s_w[c] * clip(round(w[c] / s_w[c]), lo, hi)
    b'[c] = (s_x s_w[c]) * round(b[c] / (s_x s_w[c]))       int32 codes, straight-through gradient

s_x is the step of the quantizer that the node reads. A channel whose weights are next to nothing
against its bias would need bias codes beyond int32, so s_w[c] >= |b[c]| / (s_x 2^24): such a
weight is 0 anyway, and float32 holds codes up to 2^24 exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfqonnx.core.quantization import quantize
from dfqonnx.core.quantization_plan import WeightParameters, WeightQuantizer
from dfqonnx.fakequant.quantizer import FakeQuantizer, ScaleGradient, gradient_factor, per_channel
from dfqonnx.fakequant.step_search import search_weight_scales

BIAS_CODES = 2.0**24


def _codes(bias: Tensor, scale: Tensor) -> Tensor:
    return (bias / scale).round_().clamp_(-(2.0**30), 2.0**30)


class _OnGrid(torch.autograd.Function):
    """Round to a grid; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, scale: Tensor) -> Tensor:
        return _codes(bias, scale).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class QuantizedLayer(nn.Module):
    """Runs one program step with its weight and bias on their grids.

    Attributes:
        site: the decision that it carries out.
        weight: float parameter behind the codes.
        bias: float parameter behind the int32 codes; None for MatMul.
        log_step: (O,) logarithms of the weight steps.
        attributes: of the node.
        step_shape: of the steps beside the weight.
        form: while another form of weight and bias is trained (`gradual`), what returns them.
        multiply_adds: per image, known after the first forward pass.
    """

    def __init__(
        self, site: WeightQuantizer, step: Any, tensors: Mapping[str, Tensor], source: FakeQuantizer
    ) -> None:
        super().__init__()
        self.site = site
        self._function = step.function
        self.attributes = dict(step.attributes)
        self._inputs: tuple[str, ...] = tuple(name or "" for name in step.inputs)
        self._source = (source,)  # a tuple: its parameter is registered once, by the student
        weight = tensors[site.weight].detach().clone()
        if weight.dim() == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(tensors[site.bias].detach().clone()) if site.bias else None
        own = (site.weight, site.bias)
        self._extra = {
            name: f"extra{k}"
            for k, name in enumerate(self._inputs)
            if name in tensors and name not in own
        }
        for name, buffer in self._extra.items():
            self.register_buffer(buffer, tensors[name].detach().clone())
        self.step_shape = [1] * weight.dim()
        self.step_shape[site.axis] = weight.shape[site.axis]
        self.log_step = nn.Parameter(torch.zeros(weight.shape[site.axis]))
        self._g = gradient_factor(self.fan_in, site.grid.limits[1])
        self.multiply_adds = 0
        self.float_bias = False  # while the input's step is not known
        self.form: Callable[[], tuple[Tensor, Tensor | None]] | None = None
        self.reset_steps()

    @property
    def reads(self) -> str:
        """Name of the value that the node reads: behind a pooling, not the site's own."""
        return self._inputs[0]

    @property
    def fan_in(self) -> int:
        """Weights per output channel."""
        return self.weight.numel() // self.weight.shape[self.site.axis]

    @torch.no_grad()
    def reset_steps(self) -> None:
        """Set the weight steps by grid search."""
        steps = search_weight_scales(self.weight, self.site.grid, self.site.axis)
        self.log_step.copy_(steps.log())

    @torch.no_grad()
    def guard_bias(self) -> None:
        """Raise steps that would push a bias code beyond 2^24."""
        if self.bias is not None:
            least = self.bias.reshape(-1).abs() / (self._source[0].step() * BIAS_CODES)
            self.log_step.copy_(self.log_step.maximum(least.clamp_min(1e-30).log()))

    @torch.no_grad()
    def set(self, weight: Tensor, steps: Tensor, bias: Tensor) -> None:
        """Set weight, weight steps and, where there is one, the bias."""
        self.weight.copy_(weight)
        self.log_step.copy_(steps.log())
        if self.bias is not None:
            self.bias.copy_(bias.view(self.bias.shape))
        self.guard_bias()

    def steps(self) -> Tensor:
        """Return the weight steps, (O,)."""
        return self.log_step.exp()

    def bias_scale(self) -> Tensor:
        """Return s_x s_w, (O,)."""
        return (self._source[0].step() * self.steps()).detach()

    def rounded_weight(self) -> Tensor:
        """Return w'."""
        rule = ScaleGradient(*self.site.grid.limits, self._g)
        return per_channel(self.weight, self.steps().view(self.step_shape), rule)

    def forward(self, *values: Tensor) -> Tensor:
        """Run the operator on the node's non-initializer inputs."""
        weight, bias = (self.rounded_weight(), self.bias) if self.form is None else self.form()
        out = self.run(values, weight, None if bias is None else self._on_grid(bias))
        if not self.multiply_adds and out.shape[0]:
            self.multiply_adds = out.numel() // out.shape[0] * self.fan_in
        return out

    def run(self, values: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the operator's output for a weight and a bias."""
        given = iter(values)
        arguments: list[Tensor | None] = []
        for name in self._inputs:
            if name == self.site.weight:
                arguments.append(weight)
            elif self.bias is not None and name == self.site.bias:
                arguments.append(bias)
            elif not name:
                arguments.append(None)
            else:
                extra = self._extra.get(name)
                arguments.append(getattr(self, extra) if extra else next(given))
        out: Tensor = self._function(*arguments, **self.attributes)
        return out

    def _on_grid(self, bias: Tensor) -> Tensor:
        if self.float_bias:
            return bias
        scale = self.bias_scale().view(bias.shape)
        return _OnGrid.apply(bias, scale)  # type: ignore[no-any-return, no-untyped-call]

    def _bias_codes(self) -> Tensor:
        assert self.bias is not None
        return _codes(self.bias.detach().reshape(-1), self.bias_scale())

    @torch.no_grad()
    def params(self) -> WeightParameters:
        """Return exactly what `forward` uses."""
        steps = self.steps()
        codes = quantize(self.weight, steps.view(self.step_shape), self.site.grid)
        bias = None
        if self.bias is not None:
            bias = self._bias_codes().cpu().numpy().astype(np.int32)
        kind = torch.int8 if self.site.grid.lo < 0 else torch.uint8
        integers = codes.to(kind).contiguous().cpu().numpy()
        return WeightParameters(integers, steps.cpu().numpy().astype(np.float32), bias)
