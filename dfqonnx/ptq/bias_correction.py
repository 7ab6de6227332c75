"""Bias correction and activation ranges without images.

    bias     b -= sum over inputs and kernel of (W' - W) E[x]
    range    step = max(high / largest code, low / least code), low and high as `propagate_moments` has them

Rounding a weight shifts the mean of a layer's output by (W' - W) E[x]; a channel has few weights,
so this is far from 0. E[x] comes from BatchNormalization where it reaches, else from images: what
was told by which is returned. Source: Nagel et al., ICCV 2019, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import dequantize, quantize
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.fakequant.layer import QuantizedLayer
from dfqonnx.fakequant.student import Student


@torch.no_grad()
def correct_bias(student: Student, means: Mapping[str, Tensor]) -> None:
    """Let every layer of an initialized student keep the mean of its output.

    Args:
        student: its weights are the float ones behind their codes.
        means: E[x] per channel, by the name of the value that a layer reads.
    """
    for op in student.operators():
        mean = means.get(op.reads)
        if mean is not None and op.bias is not None:
            op.bias.sub_(shift(op, mean.to(op.weight)).reshape(op.bias.shape))
            op.guard_bias()


def shift(op: QuantizedLayer, mean: Tensor) -> Tensor:
    """Return (W' - W) E[x] of a layer, (O,).

    Args:
        op: the layer.
        mean: E[x], (C,); each repeated where a Flatten laid out several values a channel.
    """
    axis = op.site.axis
    weight = op.weight.detach().movedim(axis, 0)  # (O, I/G, ...)
    steps = op.steps().detach().reshape(-1, *[1] * (weight.dim() - 1))
    rounded = dequantize(quantize(weight, steps, op.site.grid), steps, op.site.grid)
    error = (rounded - weight).reshape(*weight.shape[:2], -1).sum(2)  # (O, I/G)
    groups = int(op.attributes.get("group", 1))
    read = mean.repeat_interleave(max(1, groups * error.shape[1] // len(mean)))
    per_group = read.reshape(groups, 1, error.shape[1])
    found: Tensor = (error.reshape(groups, -1, error.shape[1]) * per_group).sum(2).reshape(-1)
    return found


@torch.no_grad()
def set_ranges(student: Student, expected: Mapping[str, ActivationMoments]) -> int:
    """Set the step of every activation whose range is known; return how many these are."""
    known = 0
    for q in student.activations():
        value = expected.get(q.site.tensor)
        if value is None:
            continue
        grid = q.site.grid
        above = max(float(value.high.max()), 0.0) / (grid.hi - grid.zero_point)
        below = -float(value.low.min()) / (grid.zero_point - grid.lo) if grid.signed else 0.0
        q.set_step(max(above, below, 1e-8))
        known += 1
    for op in student.operators():
        op.guard_bias()
    return known


@torch.no_grad()
def measured_means(
    teacher: Program, names: Iterable[str], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Return the mean of each channel of float values over batches of model inputs."""
    wanted = tuple(dict.fromkeys(names))
    net: ProgramModule | None = None
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        net = net or ProgramModule(teacher, taps=wanted, outputs=(), channels_last=True).to(
            batch.device
        )
        _, taps = net(batch)
        for name, value in taps.items():
            axes = [axis for axis in range(value.dim()) if axis != 1]
            total = value.double().mean(axes) * len(batch)
            sums[name] = sums.get(name, torch.zeros_like(total)) + total
        count += len(batch)
    return {name: total / count for name, total in sums.items()}
