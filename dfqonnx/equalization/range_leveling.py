"""Range leveling: channels of one activation that lie far apart, which the next layers undo.

A scale of 8 bits serves channels of a few octaves well, but of channels 1 : 300 apart the small
ones keep a handful of codes. Where their scales are free (`scale_groups`), channel c of an
activation with the largest magnitudes r_c is multiplied by

    f_c = (m / r_c)^a,      m the geometric mean of r,      a from 0 to 1

and its readers' columns are divided by it: the network computes what it did. What it costs is seen
in closed form. With uniform rounding noise, a reader of weight W and scales s_x, s_w[o] has

    noise    s_x^2 / 12 |W|^2 + sum_o s_w[o]^2 / 12 sum_i E[x_i^2]
    signal   sum_oi W_oi^2 E[x_i^2]

whose signal stays (channels taken as independent). The a with the least sum over the readers
is taken, if it is a quarter of what it was or less; else nothing is changed.

Source: cross-layer equalization (Nagel et al., ICCV 2019) scales layers in pairs by their weights;
here the ranges are those of values, and readers and sums of any number belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import ActivationQuantizer, QuantizationPlan
from dfqonnx.equalization.layers import WeightedLayer
from dfqonnx.equalization.scale_groups import ScaleGroups
from dfqonnx.fakequant.capture import ProgramValues

FAR_APART = 16.0  # the largest channel over the smallest one
WORTHWHILE = 0.25  # of the noise before
_DEAD = 1e-6  # of the largest channel: such a channel has no range to speak of
_STRENGTHS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class _ChannelRanges:
    """What is known of a quantized activation, by channel (C,), and the layers that read it."""

    quantizer: ActivationQuantizer
    largest: Tensor
    power: Tensor
    groups: Tensor  # number of each channel's scale group, -1 where it is fixed
    readers: tuple[WeightedLayer, ...]


def find_leveled_quantizers(
    groups: ScaleGroups, plan: QuantizationPlan
) -> tuple[ActivationQuantizer, ...]:
    """Return the quantizers of values with more than one free channel."""
    return tuple(
        quantizer
        for quantizer in plan.activations
        if quantizer.tensor in groups.group and (groups.group[quantizer.tensor] >= 0).sum() > 1
    )


@torch.no_grad()
def level_ranges(
    program: Program,
    quantizers: tuple[ActivationQuantizer, ...],
    groups: ScaleGroups,
    x: Tensor,
) -> tuple[Tensor, int]:
    """Return the factor of every scale group, (F,), and how many activations gain by them."""
    values = ProgramValues(program, (q.tensor for q in quantizers), x.device)(x)
    ranges = [_measure(quantizer, values[quantizer.tensor], groups) for quantizer in quantizers]
    factors, count = torch.ones(groups.count), 0
    for each in sorted(
        ranges, key=lambda each: -len(set(each.groups.tolist()))
    ):  # joined ones first
        free = each.groups >= 0
        known = free & (each.largest > _DEAD * each.largest.max())
        if known.sum() < 2 or bool((factors[each.groups[free]] != 1).any()):
            continue
        log = each.largest[known].log()
        if float(log.max() - log.min()) < torch.tensor(FAR_APART).log():
            continue
        touched = set(each.groups[free].tolist())
        affected = [other for other in ranges if touched & set(other.groups.tolist())]
        change = torch.zeros(groups.count).index_add_(0, each.groups[known], log.mean() - log)
        members = torch.zeros(groups.count)
        members.index_add_(0, each.groups[known], torch.ones(int(known.sum())))
        change = change / members.clamp_min(1)
        trials = {a: factors * (a * change).exp() for a in (0, *_STRENGTHS)}
        noise = {a: _noise(program.tensors, affected, trial) for a, trial in trials.items()}
        best = min(noise, key=noise.__getitem__)
        if noise[best] <= WORTHWHILE * noise[0]:
            factors, count = trials[best], count + 1
    return factors, count


def _measure(quantizer: ActivationQuantizer, value: Tensor, groups: ScaleGroups) -> _ChannelRanges:
    front = groups.by_channel(quantizer.tensor, value).cpu()  # (N, C, ...)
    rows = front.movedim(1, 0).reshape(front.shape[1], -1)
    numbers = groups.group[quantizer.tensor]
    readers = tuple(
        layer
        for layer, read in groups.layers
        if read is not None and groups.group[read].tolist() == numbers.tolist()
    )
    return _ChannelRanges(
        quantizer=quantizer,
        largest=rows.abs().amax(1),
        power=rows.square().mean(1),
        groups=torch.from_numpy(numbers),
        readers=readers,
    )


def _noise(tensors: Mapping[str, Tensor], ranges: list[_ChannelRanges], factors: Tensor) -> float:
    """Return the noise over the signal of all readers, with channels times their factors."""
    total = 0.0
    padded = torch.cat([factors, factors.new_ones(1)])  # of the number -1 as well
    for each in ranges:
        f = padded[each.groups]
        step = float((each.largest * f).max()) / max(each.quantizer.grid.limits)
        for layer in each.readers:
            weight = layer.scale_inputs(tensors[layer.spec.weight], 1 / f)
            columns = layer.in_rows(weight).square().sum(1)  # (I,)
            power = (each.power * f.square()).repeat_interleave(len(columns) // len(f))  # (I,)
            steps = layer.out_rows(weight).abs().amax(1) / layer.spec.grid.limits[1]  # (O,)
            taps = weight.numel() / len(steps) * layer.group / len(columns)  # of one input channel
            read = float(power.mean()) * len(columns) / layer.group * taps
            noise = step**2 / 12 * float(columns.sum()) + float(steps.square().sum()) / 12 * read
            total += noise / max(float((columns * power).sum()), 1e-30)
    return total
