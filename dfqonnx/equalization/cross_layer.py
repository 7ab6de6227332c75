"""Cross-layer equalization: channels of neighboring layers get equal ranges.

For a pair of layers, channel i with r1 = max |W1[i]| and r2 = max |W2[:, i]|:

    W1[i], b1[i]  times  s_i = sqrt(r1 r2) / r1         W2[:, i]  divided by  s_i

so both have the range sqrt(r1 r2), and the float network computes what it did: what stands between
is positively homogeneous. A layer is in two pairs, so all pairs are swept until nothing moves.

Where a ReLU6 stands between, its upper bound has to go first, and that changes the network: by
noise over signal E[max(x - 6, 0)^2] / E[max(x, 0)^2], x ~ N(m, v) as BatchNormalization says. Noise
of layers adds up, so bounds go in the order of their noise until it reaches `MAX_CLIP_NOISE`.
(Taking all 27 of MobileNetV1 0.25, as the paper does with MobileNetV2, leaves 7 dB of its logits.)

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

from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import ChannelStatistics, QuantizationPlan
from dfqonnx.equalization.expected_moments import rectified_moments
from dfqonnx.equalization.layers import LayerPair, find_layer_pairs, max_magnitudes

MAX_SWEEPS = 50
TOLERANCE = 1e-5  # a sweep whose factors are all this close to 1 is the last
MAX_FACTOR = 1e8  # of one sweep; the smallest is its inverse
MAX_CLIP_NOISE = 1e-3  # 30 dB, all removed bounds together
Statistics = Mapping[str, ChannelStatistics]  # what BatchNormalization knew, by value name


@dataclass(frozen=True, kw_only=True)
class CrossLayerEqualized:
    """A float network with other numbers and the same outputs."""

    program: Program
    plan: QuantizationPlan  # an upper bound that went is infinite: export writes a Relu
    statistics: Statistics  # of the scaled channels
    pairs: tuple[LayerPair, ...]  # between which scales moved
    removed_clips: tuple[str, ...]  # nodes that lost their upper bound
    sweeps: int  # until nothing moved


@torch.no_grad()
def equalize_cross_layer(
    program: Program, plan: QuantizationPlan, statistics: Statistics
) -> CrossLayerEqualized:
    """Return the network with equal ranges; the one given stays as it is."""
    clips = find_removable_clips(program, plan, statistics)
    pairs = find_layer_pairs(program, plan, clips=clips)
    tensors = dict(program.tensors)
    total: dict[str, Tensor] = {}
    sweep, moved = 0, math.inf
    while pairs and sweep < MAX_SWEEPS and moved > TOLERANCE:
        sweep, moved = sweep + 1, 0.0
        for pair in pairs:
            factors = _equalizing_factors(pair, tensors)  # (C,)
            pair.first.scale_written(tensors, factors)
            pair.second.compensate_read(tensors, factors)
            name = pair.first.output
            total[name] = total[name] * factors if name in total else factors
            moved = max(moved, float((factors.log().abs()).max()))
    removed = tuple(node for pair in pairs for node in pair.clips)
    unbounded, plan = _without_upper_bounds(replace(program, tensors=tensors), plan, removed)
    return CrossLayerEqualized(
        program=unbounded,
        plan=plan,
        statistics=scale_statistics(statistics, total),
        pairs=pairs,
        removed_clips=removed,
        sweeps=sweep,
    )


def find_removable_clips(
    program: Program, plan: QuantizationPlan, statistics: Statistics
) -> set[str]:
    """Return the nodes Clip(0, c) above whose bounds next to nothing lies, all together."""
    bounds = {q.tensor: q.clip_max for q in plan.activations if not q.consumers}
    noise: dict[str, float] = {}
    for step in program.steps:
        bound = bounds.get(str(step.outputs[0]))
        known = statistics.get(str(step.inputs[0]))
        if step.op == "Clip" and bound is not None and known is not None:
            mean, variance = torch.as_tensor(known.mean), torch.as_tensor(known.variance).double()
            _, cut = rectified_moments((mean - bound).double(), variance)
            _, signal = rectified_moments(mean.double(), variance)
            noise[step.node] = float(cut.sum()) / max(1e-24, float(signal.sum()))
    ranked = sorted(noise, key=lambda node: noise[node])
    totals = accumulate(noise[node] for node in ranked)
    return {node for node, total in zip(ranked, totals, strict=True) if total <= MAX_CLIP_NOISE}


def _equalizing_factors(pair: LayerPair, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return s, (C,); 1 where a channel is dead on either side."""
    first = max_magnitudes(pair.first.out_rows(tensors[pair.first.spec.weight]))
    rows = pair.second.in_rows(tensors[pair.second.spec.weight])
    second = max_magnitudes(rows.reshape(len(first), -1))
    factors = ((first * second).sqrt() / first).clamp(1 / MAX_FACTOR, MAX_FACTOR)
    return torch.where((first > 0) & (second > 0), factors, torch.ones_like(first))


def scale_statistics(known: Statistics, factors: Mapping[str, Tensor]) -> Statistics:
    """Return what BatchNormalization knew of values, whose channels are scaled by factors (C,)."""
    scaled = dict(known)
    for name in known.keys() & factors.keys():
        by, old = factors[name].cpu().numpy(), known[name]
        scaled[name] = ChannelStatistics(old.mean * by, old.variance * by**2)
    return scaled


def _without_upper_bounds(
    program: Program, plan: QuantizationPlan, nodes: tuple[str, ...]
) -> tuple[Program, QuantizationPlan]:
    """Return both with every Clip(x, low, high) of `nodes` made Clip(x, low)."""
    outputs = {str(program.step(node).outputs[0]) for node in nodes}
    steps = tuple(
        replace(step, inputs=step.inputs[:2]) if step.node in nodes else step
        for step in program.steps
    )
    activations = tuple(
        replace(q, clip_max=math.inf) if q.tensor in outputs and q.clip_max else q
        for q in plan.activations
    )
    return replace(program, steps=steps), replace(plan, activations=activations)
