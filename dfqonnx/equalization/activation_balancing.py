"""Activation balancing: channels that share one scale are brought nearer to one range.

A per-tensor scale serves all channels of a tensor, and below eight bits those of small range keep
few of its levels. With t the best scale of a channel for itself, relative to the geometric mean of
its tensor, a channel whose scale is free (see `scale_groups`) is multiplied by

    f = prod over its quantizers k of (mean_c t_k / t_k)^(a / K)

At a = 1 all channels of a tensor that is alone with its factors use all levels. But what a channel
gains its readers' weights lose, whose rows then hold more different values: a = 0.3, chosen on
models/resnet20.onnx (pipelines/results/TRIALS.md), lowers the divergence of W4A4 by a fifth
before training and by a tenth after it.

Source: cross-layer equalization (Nagel et al., ICCV 2019), here for activations instead of weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import SMALLEST_SCALE, IntegerRange
from dfqonnx.core.quantization_plan import ActivationQuantizer, QuantizationPlan
from dfqonnx.equalization.scale_groups import ScaleGroups
from dfqonnx.fakequant.capture import ProgramValues
from dfqonnx.fakequant.scale_search import search_weight_scales

MAX_BITS = 7  # up to which a scale shared by all channels costs accuracy
MAX_FACTOR = 8.0  # the smallest is its inverse
_RATIOS = 21  # clipping ratios tried for a channel


def find_balanced_quantizers(
    groups: ScaleGroups, plan: QuantizationPlan
) -> tuple[ActivationQuantizer, ...]:
    """Return the narrow quantizers of values with free channels."""
    return tuple(
        quantizer
        for quantizer in plan.activations
        if quantizer.grid.bits <= MAX_BITS
        and quantizer.tensor in groups.group
        and (groups.group[quantizer.tensor] >= 0).any()
    )


@torch.no_grad()
def balance_activation_channels(
    program: Program,
    quantizers: tuple[ActivationQuantizer, ...],
    groups: ScaleGroups,
    x: Tensor,
    *,
    strength: float,
) -> Tensor:
    """Return the factor of every scale group, (F,); `strength` is a, ranges are those on `x`."""
    values = ProgramValues(program, (q.tensor for q in quantizers), x.device)(x)
    logs, counts = torch.zeros(groups.count), torch.zeros(groups.count)
    for quantizer in quantizers:
        value = groups.by_channel(quantizer.tensor, values[quantizer.tensor])
        log, known = _relative_scales(value, quantizer.grid)
        numbers = torch.from_numpy(groups.group[quantizer.tensor])
        known &= numbers >= 0
        logs.index_add_(0, numbers[known], log[known])
        counts.index_add_(0, numbers[known], torch.ones(int(known.sum())))
    return (-strength * logs / counts.clamp_min(1)).exp().clamp(1 / MAX_FACTOR, MAX_FACTOR)


def _relative_scales(value: Tensor, grid: IntegerRange) -> tuple[Tensor, Tensor]:
    """Return log t_k / mean_c t_k of a value (N, C, ...), (C,), and which have a t: not all 0."""
    largest = max(grid.limits[1], -grid.limits[0])
    symmetric = IntegerRange(grid.bits, -largest, largest, 0)
    scales = search_weight_scales(value, symmetric, 1, count=_RATIOS).cpu()
    known = scales > SMALLEST_SCALE
    log = scales.log()
    return log - log[known].mean(), known
