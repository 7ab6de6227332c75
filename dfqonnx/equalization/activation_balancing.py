"""Channels that share an activation's step, brought nearer to one range.

A step serves all channels of a tensor, and below eight bits those of small range keep few of its
levels. With t the best step of a channel for itself, relative to the geometric mean of its tensor,
and the free scales of `freedom`, a channel is multiplied by

    f = prod over its quantizers k of (mean_c t_k / t_k)^(a / K)

At a = 1 all channels of a tensor that is alone with its factors use all levels. But what a channel
gains its readers' weights lose, whose rows then hold more different values: a = 0.3, chosen on
models/resnet20.onnx (pipelines/results/TRIALS.md), lowers the divergence of W4A4 by a fifth
before training and by a tenth after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import IntegerRange
from dfqonnx.core.quantization_plan import ActivationQuantizer, QuantizationPlan
from dfqonnx.equalization.scale_groups import ScaleGroups
from dfqonnx.fakequant.scale_search import SMALLEST, search_weight_scales

MAX_BITS = 7  # bits up to which it is a step shared by all channels that costs
MAX_FACTOR = 8.0  # the largest factor, and one over the smallest
_RATIOS = 21  # clipping ratios tried for a channel


def find_balanced_quantizers(
    freedom: ScaleGroups, sites: QuantizationPlan
) -> tuple[ActivationQuantizer, ...]:
    """Return the narrow quantizers of values with free channels."""
    return tuple(
        site
        for site in sites.activations
        if site.grid.bits <= MAX_BITS
        and site.tensor in freedom.factor
        and (freedom.factor[site.tensor] >= 0).any()
    )


@torch.no_grad()
def balance_activation_channels(
    program: Program,
    shared: tuple[ActivationQuantizer, ...],
    freedom: ScaleGroups,
    x: Tensor,
    *,
    share: float,
) -> Tensor:
    """Return the factor of every free channel, (F,).

    Args:
        program: the float network.
        shared: quantizers whose channels are brought nearer, see `find_balanced_quantizers`.
        freedom: of the network's channels.
        x: model inputs that tell ranges.
        share: a, from 0 to 1.
    """
    names = dict.fromkeys(site.tensor for site in shared)
    values = ProgramModule(program, taps=names, outputs=(), channels_last=True).to(x.device)(x)[1]
    logs, counts = torch.zeros(freedom.count), torch.zeros(freedom.count)
    for site in shared:
        value = freedom.channels(site.tensor, values[site.tensor])
        log, told = _unevenness(value, site.grid)
        numbers = torch.from_numpy(freedom.factor[site.tensor])
        told &= numbers >= 0
        logs.index_add_(0, numbers[told], log[told])
        counts.index_add_(0, numbers[told], torch.ones(int(told.sum())))
    return (-share * logs / counts.clamp_min(1)).exp().clamp(1 / MAX_FACTOR, MAX_FACTOR)


def _unevenness(value: Tensor, grid: IntegerRange) -> tuple[Tensor, Tensor]:
    """Return log t_k / mean_c t_k of a value (N, C, ...), (C,), and which have a t: not all 0."""
    largest = max(grid.hi - grid.zero_point, grid.zero_point - grid.lo)
    steps = search_weight_scales(
        value, IntegerRange(grid.bits, -largest, largest, 0), 1, count=_RATIOS
    ).cpu()
    told = steps > SMALLEST
    log = steps.log()
    return log - log[told].mean(), told
