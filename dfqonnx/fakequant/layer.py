"""A Conv, Gemm or MatMul whose weight and bias stand on integer grids.

    w'[c] = s_w[c] * clip(round(w[c] / s_w[c]), lo, hi)
    b'[c] = (s_x s_w[c]) * round(b[c] / (s_x s_w[c]))       int32 codes, straight-through gradient

s_x is the scale of the quantizer that the node reads. A channel whose weights are next to nothing
against its bias would need bias codes beyond int32, so s_w[c] >= |b[c]| / (s_x 2^24): such a
weight is 0 anyway, and float32 holds codes up to 2^24 exactly. Steps of 16-bit inputs are 2^8 times
as fine, so there the limit is 2^30, and codes are those of them that float32 holds. Where the
target leaves biases in float, b' = b. One scale for all channels is a single parameter; powers of
two are not trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfqonnx.convert.program import OpCall
from dfqonnx.core.quantization import MAX_BITS, fake_quantize, quantize, round_in_range
from dfqonnx.core.quantization_plan import WeightParameters, WeightQuantizer
from dfqonnx.fakequant.quantizer import (
    CONTAINERS,
    FakeQuantizer,
    ScaleGradient,
    gradient_factor,
    nearest_power_of_two,
    per_channel,
)
from dfqonnx.fakequant.scale_search import next_power_of_two, search_weight_scales

MAX_BIAS_CODE, MAX_WIDE_BIAS_CODE = 2.0**24, 2.0**30
BIAS_LIMITS = (-(2**30), 2**30)


class _RoundedBias(torch.autograd.Function):
    """Round to a grid; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, scale: Tensor) -> Tensor:
        return fake_quantize(bias, scale, BIAS_LIMITS)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class WeightSource(Protocol):
    """Returns the weight and the bias that a layer computes with."""

    def __call__(self, layer: QuantizedLayer, /) -> tuple[Tensor, Tensor | None]:
        """Return them for a layer."""


def both_rounded(layer: QuantizedLayer) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias on their grids: what is exported."""
    return layer.rounded_weight(), layer.rounded_bias(layer.bias)


def weight_rounded(layer: QuantizedLayer) -> tuple[Tensor, Tensor | None]:
    """Return the weight on its grid and the bias as it is, while the input's scale is unknown."""
    return layer.rounded_weight(), layer.bias


class QuantizedLayer(nn.Module):
    """Runs one node of a program with its weight and bias (None for MatMul) on their grids.

    `weight` and `bias` are the float parameters behind the codes.
    """

    def __init__(
        self,
        spec: WeightQuantizer,
        call: OpCall,
        tensors: Mapping[str, Tensor],
        source: FakeQuantizer,
    ) -> None:
        super().__init__()
        self.spec = spec
        self._function = call.function
        self.attributes = dict(call.attributes)
        self._inputs: tuple[str, ...] = tuple(name or "" for name in call.inputs)
        self._source = (source,)  # a tuple: its parameter is registered once, by the student
        weight = tensors[spec.weight].detach().clone()
        if weight.dim() == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(tensors[spec.bias].detach().clone()) if spec.bias else None
        own = (spec.weight, spec.bias)
        self._extra = {
            name: f"extra{k}"
            for k, name in enumerate(self._inputs)
            if name in tensors and name not in own
        }
        for name, buffer in self._extra.items():
            self.register_buffer(buffer, tensors[name].detach().clone())
        self.scale_shape = [1] * weight.dim()
        self.scale_shape[spec.axis] = weight.shape[spec.axis]
        count = weight.shape[spec.axis] if spec.per_channel else 1
        self.log_scale = nn.Parameter(
            torch.zeros(count), requires_grad=not spec.power_of_two
        )  # (O,), or (1,) for all
        g = gradient_factor(self.fan_in, spec.grid.limits[1])
        self._rule = ScaleGradient(*spec.grid.limits, g)
        self.multiply_adds = 0  # per image, known after the first forward pass
        self.weight_source: WeightSource = both_rounded  # soft rounding puts itself here
        self.search_scales()

    @property
    def input_name(self) -> str:
        """Name of the value that the node reads: behind a pooling, not the quantizer's own."""
        return self._inputs[0]

    @property
    def fan_in(self) -> int:
        """Weights per output channel."""
        return self.weight.numel() // self.weight.shape[self.spec.axis]

    @torch.no_grad()
    def search_scales(self) -> None:
        """Set the weight's scales by grid search."""
        spec = self.spec
        scales = search_weight_scales(
            self.weight,
            spec.grid,
            spec.axis,
            per_channel=spec.per_channel,
            power_of_two=spec.power_of_two,
        )
        self.log_scale.copy_(scales.log())

    @torch.no_grad()
    def guard_bias(self) -> None:
        """Raise scales that would push a bias code beyond 2^24, or 2^30."""
        if self.bias is None or self.spec.float_bias:
            return
        source = self._source[0]
        most = MAX_BIAS_CODE if source.spec.grid.bits <= MAX_BITS else MAX_WIDE_BIAS_CODE
        least = self.bias.reshape(-1).abs() / (source.scale() * most)
        least = least.clamp_min(1e-30)
        if not self.spec.per_channel:
            least = least.amax(0, keepdim=True)
        if self.spec.power_of_two:
            least = next_power_of_two(least)
        self.log_scale.copy_(self.log_scale.maximum(least.log()))

    @torch.no_grad()
    def set_parameters(self, weight: Tensor, scales: Tensor, bias: Tensor) -> None:
        """Set weight, weight scales and, where there is one, the bias."""
        self.weight.copy_(weight)
        self.log_scale.copy_(scales[: len(self.log_scale)].log())
        if self.bias is not None:
            self.bias.copy_(bias.view(self.bias.shape))
        self.guard_bias()

    def scales(self) -> Tensor:
        """Return the weight's scales, (O,)."""
        spec, log = self.spec, self.log_scale
        found = nearest_power_of_two(log) if spec.power_of_two else log.exp()
        return found if spec.per_channel else found.expand(self.weight.shape[spec.axis])

    def shaped_scales(self) -> Tensor:
        """Return the weight's scales so that they broadcast against it: (O, 1, 1, 1)."""
        return self.scales().view(self.scale_shape)

    def bias_scale(self) -> Tensor:
        """Return s_x s_w, (O,)."""
        return (self._source[0].scale() * self.scales()).detach()

    def rounded_weight(self) -> Tensor:
        """Return w'."""
        return per_channel(self.weight, self.shaped_scales(), self._rule)

    def rounded_bias(self, bias: Tensor | None) -> Tensor | None:
        """Return b' for a bias b."""
        if bias is None or self.spec.float_bias:
            return bias
        scale = self.bias_scale().view(bias.shape)
        return _RoundedBias.apply(bias, scale)  # type: ignore[no-any-return, no-untyped-call]

    def forward(self, *values: Tensor) -> Tensor:
        """Run the operator on the node's non-initializer inputs."""
        out = self.run(values, *self.weight_source(self))
        if not self.multiply_adds and out.shape[0]:
            self.multiply_adds = out.numel() // out.shape[0] * self.fan_in
        return out

    def run(self, values: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the operator's output for a weight and a bias."""
        given = iter(values)
        arguments: list[Tensor | None] = []
        for name in self._inputs:
            if name == self.spec.weight:
                arguments.append(weight)
            elif self.bias is not None and name == self.spec.bias:
                arguments.append(bias)
            elif not name:
                arguments.append(None)
            else:
                extra = self._extra.get(name)
                arguments.append(getattr(self, extra) if extra else next(given))
        out: Tensor = self._function(*arguments, **self.attributes)
        return out.float() if out.dtype == torch.bfloat16 else out  # quantizers read float32

    @torch.no_grad()
    def params(self) -> WeightParameters:
        """Return exactly what `forward` uses."""
        codes = quantize(self.weight, self.shaped_scales(), self.spec.grid)
        bias: NDArray[np.int32] | NDArray[np.float32] | None = None
        if self.bias is not None and self.spec.float_bias:
            bias = self.bias.reshape(-1).cpu().numpy().astype(np.float32)
        elif self.bias is not None:
            found = round_in_range(self.bias.reshape(-1), self.bias_scale(), BIAS_LIMITS)
            bias = found.cpu().numpy().astype(np.int32)
        integers = codes.to(CONTAINERS[self.spec.grid.dtype.name]).contiguous().cpu().numpy()
        return WeightParameters(integers, self.scales().cpu().numpy().astype(np.float32), bias)
