"""A student whose quantizers are switched on one by one, and what a quantizer does to its values.

All are off at first: the network is the float one. A weight at b bits is rounded to the nearest
code, with scales by grid search, and the mean of what that changes in each output channel is taken
out of the bias, as bias correction does before every training:

    w' = Q_b(w)       dy = (w' - w) * x       b' = b - mean dy        over images and positions
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.core.quantization import fake_quantize
from dfqonnx.fakequant.layer import QuantizedLayer, WeightSource
from dfqonnx.fakequant.quantizer import FakeQuantizer
from dfqonnx.fakequant.scale_search import search_weight_scales
from dfqonnx.fakequant.student import Student
from dfqonnx.targets.profile import TargetProfile

SCALES = 31  # clipping ratios that are tried


def unrounded(layer: QuantizedLayer) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias as they are."""
    return layer.weight, layer.bias


def turn_off(student: Student) -> None:
    """Let every value of the student pass as it is."""
    for quantizer in student.quantizers():
        quantizer.enabled = False
    for layer in student.layers():
        layer.weight_source = unrounded


@contextmanager
def turned_on(quantizer: FakeQuantizer) -> Iterator[None]:
    """Let one activation quantizer round within the block."""
    quantizer.enabled = True
    try:
        yield
    finally:
        quantizer.enabled = False


@contextmanager
def rounding(layer: QuantizedLayer, weight: Tensor, shift: Tensor | None) -> Iterator[None]:
    """Let one layer compute with `weight`, and with its bias less `shift` (O,)."""
    bias = layer.bias
    if bias is not None and shift is not None:
        bias = bias - shift.view(bias.shape)  # type: ignore[assignment]
    kept: WeightSource = layer.weight_source
    layer.weight_source = lambda _: (weight, bias)
    try:
        yield
    finally:
        layer.weight_source = kept


@torch.no_grad()
def round_weight(layer: QuantizedLayer, bits: int, target: TargetProfile) -> Tensor:
    """Return the weight of a layer on its grid of so many bits."""
    spec, grid = layer.spec, target.weights.grid(bits)
    scales = search_weight_scales(
        layer.weight,
        grid,
        spec.axis,
        count=SCALES,
        per_channel=spec.per_channel,
        power_of_two=spec.power_of_two,
    )
    count = layer.weight.shape[spec.axis]
    scale = scales.expand(count).reshape(layer.scale_shape)
    return fake_quantize(layer.weight, scale, grid.limits)


def channel_axis(layer: QuantizedLayer, output: Tensor) -> int:
    """Return the axis of a layer's output that holds the channels of its weight."""
    return 1 if layer.weight.dim() > 2 else output.dim() - 1


@dataclass
class OutputShift:
    """The mean change of a layer's output, channel by channel."""

    total: Tensor | None = None  # (O,)
    count: int = 0

    def add(self, change: Tensor, axis: int) -> None:
        """Take in a batch of changes."""
        others = [k for k in range(change.dim()) if k != axis]
        found = change.sum(others)
        self.total = found if self.total is None else self.total + found
        self.count += change.numel() // change.shape[axis]

    @property
    def mean(self) -> Tensor | None:
        """The mean, (O,); None before anything came."""
        return None if self.total is None else self.total / self.count
