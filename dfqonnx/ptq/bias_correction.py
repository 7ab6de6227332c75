"""Bias correction and activation ranges without images.

    bias     b -= sum over inputs and kernel of (W' - W) E[x]
    range    scale = max(high / largest code, low / smallest code) as `propagate_moments` has them

Rounding a weight shifts the mean of a layer's output by (W' - W) E[x]; a channel has few weights,
so this is far from 0. E[x] comes from BatchNormalization where its statistics reach, else from
images.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import fake_quantize
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.fakequant.capture import ProgramValues
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student


@torch.no_grad()
def correct_bias(student: Student, means: Mapping[str, Tensor]) -> None:
    """Let every layer of an initialized student keep the mean of its output.

    `means` are E[x] per channel, by the name of the value that a layer reads.
    """
    for layer in student.layers():
        mean = means.get(layer.input_name)
        if mean is not None and layer.bias is not None:
            shift = output_shift(layer, mean.to(layer.weight))
            layer.bias.sub_(shift.reshape(layer.bias.shape))
            layer.guard_bias()


def output_shift(layer: QuantizedLayer, mean: Tensor) -> Tensor:
    """Return (W' - W) E[x] of a layer, (O,).

    `mean` is E[x], (C,); each is repeated where a Flatten laid out several values a channel.
    """
    weight = layer.weight.detach()
    rounded = fake_quantize(weight, layer.shaped_scales().detach(), layer.spec.grid.limits)
    moved = (rounded - weight).movedim(layer.spec.axis, 0)  # (O, I/G, ...)
    error = moved.reshape(*moved.shape[:2], -1).sum(2)  # (O, I/G)
    groups = int(layer.attributes.get("group", 1))
    read = mean.repeat_interleave(max(1, groups * error.shape[1] // len(mean)))
    per_group = read.reshape(groups, 1, error.shape[1])
    return (error.reshape(groups, -1, error.shape[1]) * per_group).sum(2).reshape(-1)


@torch.no_grad()
def set_activation_ranges(student: Student, moments: Mapping[str, ActivationMoments]) -> int:
    """Set the scale of every activation whose range is known; return how many these are."""
    known = 0
    for quantizer in student.quantizers():
        value = moments.get(quantizer.spec.tensor)
        if value is None:
            continue
        quantizer.set_range(float(value.low.min()), float(value.high.max()))
        known += 1
    for layer in student.layers():
        layer.guard_bias()
    return known


@torch.no_grad()
def measure_means(
    teacher: Program, names: Iterable[str], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Return the mean of each channel of float values over batches of model inputs."""
    wanted = tuple(names)
    values: ProgramValues | None = None
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        values = values or ProgramValues(teacher, wanted, batch.device)
        for name, value in values(batch).items():
            axes = [axis for axis in range(value.dim()) if axis != 1]
            total = value.double().mean(axes) * len(batch)
            sums[name] = sums.get(name, torch.zeros_like(total)) + total
        count += len(batch)
    return {name: total / count for name, total in sums.items()}
