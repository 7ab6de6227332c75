"""Cross-layer equalization: channels of neighboring layers get equal ranges.

For a pair of layers, channel i with r1 = max |W1[i]| and r2 = max |W2[:, i]|:

    W1[i], b1[i]  times  s_i = sqrt(r1 r2) / r1         W2[:, i]  divided by  s_i

so both have the range sqrt(r1 r2), and the float network computes what it did: what stands between
is positively homogeneous. A layer is in two pairs, so all pairs are swept until nothing moves.

Where a ReLU6 stands between, its ceiling has to go first, and that changes the network: by noise
over signal E[max(x - 6, 0)^2] / E[max(x, 0)^2], x ~ N(m, v) as BatchNormalization says. Noise of
layers adds up, so ceilings go in the order of their noise until it reaches `SPILL`. (Taking all 27
of MobileNetV1 0.25, as the paper does with MobileNetV2, leaves 7 dB of its logits.)

Source: Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, sections 4.1 and 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from dfqonnx.convert.program import OpCall, Program
from dfqonnx.core.quantization_plan import ChannelStatistics, QuantizationPlan
from dfqonnx.equalization.layers import LayerPair, find_layer_pairs, largest

MAX_SWEEPS = 50
TOLERANCE = 1e-5  # a sweep whose factors are all this close to 1 is the last
MAX_FACTOR = 1e8  # largest factor of one sweep, and its inverse the least
MAX_CLIP_NOISE = 1e-3  # 30 dB, all ceilings together
Statistics = Mapping[str, ChannelStatistics]


@dataclass(frozen=True)
class CrossLayerEqualized:
    """A float network with other numbers and the same outputs.

    Attributes:
        program: the network.
        plan: the ceilings that went are infinite there: export writes such a Clip as a Relu.
        statistics: of the scaled channels.
        pairs: between which scales moved.
        removed_clips: nodes that lost their ceiling.
        sweeps: until nothing moved.
    """

    program: Program
    plan: QuantizationPlan
    statistics: Statistics
    pairs: tuple[LayerPair, ...]
    removed_clips: tuple[str, ...]
    sweeps: int


@torch.no_grad()
def equalize_cross_layer(
    program: Program, sites: QuantizationPlan, statistics: Statistics
) -> CrossLayerEqualized:
    """Return the network with equal ranges; the one given stays as it is.

    Args:
        program: the float network.
        sites: its quantizers.
        statistics: what BatchNormalization knew, by value name; may be empty.
    """
    pairs = find_layer_pairs(program, sites, clips=find_removable_clips(program, sites, statistics))
    tensors = dict(program.tensors)
    factors = {pair.first.output: _ones(pair, tensors) for pair in pairs}
    sweep, moved = 0, math.inf
    while pairs and sweep < MAX_SWEEPS and moved > TOLERANCE:
        sweep, moved = sweep + 1, 0.0
        for pair in pairs:
            step = _factors(pair, tensors)  # (C,)
            pair.first.scale_made(tensors, step)
            pair.second.scale_read(tensors, step)
            factors[pair.first.output] *= step
            moved = max(moved, float((step.log().abs()).max()))
    relaxed = tuple(node for pair in pairs for node in pair.clips)
    return CrossLayerEqualized(
        replace(program, tensors=tensors, steps=_relaxed(program, relaxed)),
        _without_ceilings(sites, program, relaxed),
        scale_statistics(statistics, factors),
        pairs,
        relaxed,
        sweep,
    )


def find_removable_clips(
    program: Program, sites: QuantizationPlan, statistics: Statistics
) -> set[str]:
    """Return the nodes Clip(0, c) above whose ceilings next to nothing lies, all together."""
    ceilings = {site.tensor: site.clip_max for site in sites.activations if not site.consumers}
    noise: dict[str, float] = {}
    for step in program.steps:
        ceiling = ceilings.get(str(step.outputs[0]))
        known = statistics.get(str(step.inputs[0]))
        if step.op == "Clip" and ceiling is not None and known is not None:
            mean, variance = torch.as_tensor(known.mean), torch.as_tensor(known.variance)
            spilled = float(above(mean - ceiling, variance).sum())
            noise[step.node] = spilled / max(1e-24, float(above(mean, variance).sum()))
    ranked = sorted(noise, key=lambda node: noise[node])
    totals = accumulate(noise[node] for node in ranked)
    return {node for node, total in zip(ranked, totals, strict=True) if total <= MAX_CLIP_NOISE}


def above(mean: Tensor, variance: Tensor) -> Tensor:
    """Return E[max(x, 0)^2] of x ~ N(mean, variance): (m^2 + v) Phi(a) + m s phi(a), a = m / s."""
    mean, variance = mean.double(), variance.double().clamp_min(1e-24)
    a = mean / variance.sqrt()
    density = torch.exp(-0.5 * a.square()) / math.sqrt(2 * math.pi)
    below = torch.special.ndtr(a)
    found: Tensor = (mean.square() + variance) * below + mean * variance.sqrt() * density
    return found


def _ones(pair: LayerPair, tensors: Mapping[str, Tensor]) -> Tensor:
    weight = tensors[pair.first.spec.weight]
    return torch.ones(weight.shape[pair.first.spec.axis], device=weight.device)


def _factors(pair: LayerPair, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return s, (C,); 1 where a channel is dead on either side."""
    first = largest(pair.first.out_rows(tensors[pair.first.spec.weight]))
    rows = pair.second.in_rows(tensors[pair.second.spec.weight])
    second = largest(rows.reshape(len(first), -1))
    factors = ((first * second).sqrt() / first).clamp(1 / MAX_FACTOR, MAX_FACTOR)
    return torch.where((first > 0) & (second > 0), factors, torch.ones_like(first))


def scale_statistics(known: Statistics, factors: Mapping[str, Tensor]) -> Statistics:
    """Return what BatchNormalization knew of values whose channels were scaled.

    Args:
        known: by value name.
        factors: (C,) by value name; the others stay.
    """
    by = {name: factors[name].cpu().numpy() for name in known.keys() & factors}
    return {
        name: ChannelStatistics(it.mean * by[name], it.variance * by[name] ** 2)
        if name in by
        else it
        for name, it in known.items()
    }


def _relaxed(program: Program, nodes: tuple[str, ...]) -> tuple[OpCall, ...]:
    """Return the steps, Clip(x, low, high) of `nodes` made Clip(x, low)."""
    return tuple(
        replace(step, inputs=step.inputs[:2]) if step.node in nodes else step
        for step in program.steps
    )


def _without_ceilings(
    sites: QuantizationPlan, program: Program, relaxed: tuple[str, ...]
) -> QuantizationPlan:
    outputs = {str(program.step(node).outputs[0]) for node in relaxed}
    activations = tuple(
        replace(site, clip_max=math.inf) if site.tensor in outputs and site.clip_max else site
        for site in sites.activations
    )
    return replace(sites, activations=activations)
