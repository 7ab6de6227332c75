"""Soft rounding: weights move from real numbers to codes while all others make up for it.

With latent codes v = w / s, kept in place of the weight, and a temperature u that falls from 1 to
0:

    code    c = floor v + clip((v - floor v - 1/2) / u + 1/2, 0, 1)        u = 1: v;  u = 0: round v
    weight  w' = s c          dw'/ds = c;   dw'/dv = s on the ramp and min(u, 0.1) beside it, else 0
    bias    b' = b + 0.1 d t + <w0', P> - <w', P>,    P = E[patches of x],   d the output's spread

A relative of AdaRound (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
Quantization", ICML 2020), which learns the way between two codes and regularizes towards one of
them, too. Here a weight may still reach every code, and the bias holds the mean of the output.

- A rounding with a straight-through gradient flips codes to and fro, and leads depthwise networks
  away; a ramp does not.
- Where gradients hold a code between two whole numbers, a regularization towards the nearer one
  grows as u falls, v += rate (1 - u) / 2u (c - floor v - 1/2): else those left are all rounded at
  the end.
- What is beside the ramp can still come back, and less of it as u falls. Below u = 0.15 the
  learning rate of codes falls with u: where the ramp narrows more slowly than Adam strides, codes
  walk to and fro across it at the end of a long schedule, in bulk.
- s is a gain of its channel. As a scale under weights that stand on its grid (LSQ) it has next to
  no gradient (round(w/s) - w/s), and Adam makes full strides out of the noise in it.
- The trained offset t starts at 0. Whatever weights and gains do, the mean of the output stays:
  without it a change of weights shifts means, which are large against what varies (inputs behind a
  Relu are positive). BatchNormalization does this where it is not folded.

v is in codes, t in tenths of a deviation, log s is relative: one rate suits every layer and file.
P is the derivative of the outputs' mean with respect to the weight, so no geometry is needed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dfqonnx.core.quantization import quantize, round_in_range
from dfqonnx.fakequant.capture import capture
from dfqonnx.fakequant.layer import QuantizedLayer, both_rounded
from dfqonnx.fakequant.quantizer import sum_per_channel
from dfqonnx.fakequant.student import Student

MARGIN = 0.1  # of a code: how far beside the ramp a weight can still come back, at most
SLOW_BELOW = 0.15  # the temperature from where on the rate of codes falls
REGULARIZATION = 0.5  # no different from 0.25 and 1 within noise
OFFSET = 0.1  # of an output's deviation, per unit of the trained offset
SAFE = 0.49  # of a scale: what is stored rounds to its code


class _SoftRound(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, scale: Tensor, rule: tuple[tuple[int, int], float]
    ) -> Tensor:
        limits, temperature = rule
        inside = None
        if temperature > 0.0:
            bounded = latent.clamp(*limits)
            base = bounded.floor()
            middle = (bounded - base).sub_(0.5)
            reach = 0.5 * temperature + min(temperature, MARGIN)
            inside = (middle.abs() <= reach) & ((latent - bounded).abs() <= 0.5)
            code = base.add_(middle.div_(temperature).add_(0.5).clamp_(0.0, 1.0)).clamp_(*limits)
        else:
            code = round_in_range(latent, torch.ones_like(scale), limits)
        ctx.save_for_backward(code, scale, *(() if inside is None else (inside,)))
        return code * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        code, scale, *inside = ctx.saved_tensors
        to_scale = sum_per_channel(gradient * code, scale)
        if not inside:  # no gradient is not a gradient of 0: Adam's momentum would flip codes
            return None, to_scale, None
        return (gradient * scale).mul_(inside[0]), to_scale, None


def code_lr_factor(temperature: float) -> float:
    """Return the learning rate of codes at a temperature above 0, over that of everything else."""
    return min(1.0, temperature / SLOW_BELOW)


def soft_round(
    latent: Tensor, scale: Tensor, limits: tuple[int, int], temperature: float
) -> Tensor:
    """Return w' of latent codes v, scales s, such as (O, 1, 1, 1), and the temperature u."""
    rule = limits, temperature
    return _SoftRound.apply(latent, scale, rule)  # type: ignore[no-any-return, no-untyped-call]


class SoftRoundedLayer:
    """The weight source of one layer while its rounding is soft."""

    def __init__(self, layer: QuantizedLayer, patch: Tensor, deviation: Tensor) -> None:
        self.temperature = 1.0  # u
        self._axes = [axis for axis in range(layer.weight.dim()) if axis != layer.spec.axis]
        self.latent = nn.Parameter(layer.weight.detach() / layer.shaped_scales().detach())  # v
        self.offset: nn.Parameter | None = None  # t, (O,); None for a layer without bias
        self._patch = patch
        if layer.bias is not None:
            weight = layer.rounded_weight().detach()
            self.offset = nn.Parameter(torch.zeros_like(layer.bias))
            self._unit = OFFSET * deviation.view(layer.bias.shape)
            self._start = layer.bias.detach() + self._mean(weight)

    def _mean(self, weight: Tensor) -> Tensor:
        """Return <w', P>, of the bias's shape."""
        return (weight * self._patch).sum(self._axes).view_as(self._unit)

    def parameters(self, layer: QuantizedLayer) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias, the bias not yet on its grid."""
        scales, limits = layer.shaped_scales(), layer.spec.grid.limits
        weight = soft_round(self.latent, scales, limits, self.temperature)
        if self.offset is None:
            return weight, None
        return weight, self._start + (self._unit * self.offset - self._mean(weight))

    def __call__(self, layer: QuantizedLayer, /) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias."""
        weight, bias = self.parameters(layer)
        return weight, layer.rounded_bias(bias)

    @torch.no_grad()
    def regularize(self, rate: float) -> None:
        """Move codes between two whole numbers towards the nearer one, at the weights' rate."""
        u = self.temperature
        if u > 0.0:
            middle = (self.latent - self.latent.floor()).sub_(0.5)  # u (c - floor v - 1/2)
            undecided = middle.abs() < 0.5 * u
            step = REGULARIZATION * rate * (1.0 - u) / u**2
            self.latent.add_(middle.mul_(undecided), alpha=step)

    @torch.no_grad()
    def harden(self, layer: QuantizedLayer) -> None:
        """Write weight and bias back to the layer, which rounds them as this does at u = 0."""
        self.temperature = 0.0
        _, bias = self.parameters(layer)
        grid = layer.spec.grid
        code = quantize(self.latent, torch.ones_like(self.latent), grid) - grid.zero_point
        latent = code + (self.latent - code).clamp_(-SAFE, SAFE)
        layer.weight_source = both_rounded
        layer.weight.copy_(latent * layer.shaped_scales())
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)
        layer.guard_bias()


class SoftRounding:
    """A student whose layers are rounded softly until `harden`.

    It starts from where the student stands; `batches` of inputs give means and deviations.
    """

    def __init__(self, student: Student, batches: Iterable[Tensor]) -> None:
        self._student = student
        self.temperature = 1.0  # u of all layers
        self._layers: list[tuple[QuantizedLayer, SoftRoundedLayer]] = []
        for layer, patch, deviation in _output_statistics(student, batches):
            soft = SoftRoundedLayer(layer, patch, deviation)
            layer.weight_source = soft
            self._layers.append((layer, soft))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return what is trained, by kind as `Student.parameter_groups` has it."""
        return {
            "weights": [soft.latent for _, soft in self._layers],
            "biases": [soft.offset for _, soft in self._layers if soft.offset is not None],
            "scales": self._student.parameter_groups()["scales"],
        }

    def set_temperature(self, temperature: float) -> None:
        """Set u of all layers: 1 rounds nothing, 0 all."""
        self.temperature = temperature
        for _, soft in self._layers:
            soft.temperature = temperature

    def regularize(self, rate: float) -> None:
        """Move every code that is left between two whole numbers; see the module."""
        for _, soft in self._layers:
            soft.regularize(rate)

    def harden(self) -> None:
        """Give the student its own weights and biases back, all weights rounded."""
        for layer, soft in self._layers:
            soft.harden(layer)


@torch.no_grad()
def _output_statistics(
    student: Student, batches: Iterable[Tensor]
) -> list[tuple[QuantizedLayer, Tensor, Tensor]]:
    """Return every layer with P and the deviation of its output per channel, means over batches."""
    patches: dict[str, list[Tensor]] = {}
    deviations: dict[str, list[Tensor]] = {}

    def observe(layer: QuantizedLayer, values: tuple[Tensor, ...]) -> None:
        with torch.enable_grad():
            weight = layer.rounded_weight().detach().requires_grad_()
            out = layer.run(values, weight, None if layer.bias is None else layer.bias.detach())
            axes = [axis for axis in range(out.dim()) if axis != 1]
            (patch,) = torch.autograd.grad(out.mean(axes).sum(), weight)
        patches.setdefault(layer.spec.node, []).append(patch)
        deviations.setdefault(layer.spec.node, []).append(out.detach().std(axes, correction=0))

    with capture(student.layers(), before=observe):
        for x in batches:
            student(x)
    return [
        (layer, torch.stack(patches[node]).mean(0), _mean_deviation(deviations[node]))
        for layer in student.layers()
        if (node := layer.spec.node) in patches
    ]


def _mean_deviation(deviations: list[Tensor]) -> Tensor:
    """Return the mean over batches; a channel that hardly varies counts as a hundredth of all."""
    mean = torch.stack(deviations).mean(0)
    return mean.maximum(0.01 * mean.mean())
