"""Bias absorption: what nearly never falls below c > 0 need not be carried by an activation.

    y = W2 relu(x) + b2,  x = W1 u + b1;   with x >= c nearly always, relu(x) = relu(x - c) + c, so
    b1 -= c        b2 += W2 c        (summed over the kernel)

c = max(0, beta - 3 gamma): of x ~ N(beta, gamma^2) one value in 740 lies below. Activations then
begin near 0 and their grid is finer. Only where BatchNormalization knows beta and gamma. Where a
Conv pads with zeros its border is off by what the padding now lacks, as in the paper.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.1.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.equalization.cross_layer import CrossLayerEqualized
from dfqonnx.equalization.layers import LayerPair
from dfqonnx.graph.op_traits import Trait, ops_with

DEVIATIONS = 3.0


@torch.no_grad()
def absorb_high_bias(network: CrossLayerEqualized) -> CrossLayerEqualized:
    """Return the network with high biases absorbed; the one given stays as it is."""
    tensors = dict(network.program.tensors)
    statistics = dict(network.statistics)
    for pair in network.pairs:
        name = pair.first.output
        known = statistics.get(name)
        if known is not None and _passes_constants(pair):
            least = torch.as_tensor(known.mean - DEVIATIONS * known.variance**0.5).clamp_min(0)
            _absorb(pair, least, tensors)
            statistics[name] = ChannelStatistics(known.mean - least.numpy(), known.variance)
    return replace(
        network, program=replace(network.program, tensors=tensors), statistics=statistics
    )


def _passes_constants(pair: LayerPair) -> bool:
    """Whether what stands between lets a constant above 0 through."""
    rectified = "Relu" in pair.between or bool(pair.clips)
    passing = ops_with(Trait.SHIFT_EQUIVARIANT) | ({"Clip"} if pair.clips else frozenset())
    biased = pair.first.spec.bias is not None and pair.second.spec.bias is not None
    return rectified and biased and set(pair.between) <= passing


def _absorb(pair: LayerPair, least: Tensor, tensors: dict[str, Tensor]) -> None:
    first, layer = str(pair.first.spec.bias), pair.second
    least = least.to(tensors[first])
    tensors[first] = (tensors[first].reshape(-1) - least).reshape(tensors[first].shape)
    weight, bias = tensors[layer.spec.weight], tensors[str(layer.spec.bias)]
    moved = layer.out_rows(layer.scale_inputs(weight, least)).sum(1)
    tensors[str(layer.spec.bias)] = (bias.reshape(-1) + moved).reshape(bias.shape)


def count_absorbed_biases(before: Mapping[str, Tensor], network: CrossLayerEqualized) -> int:
    """Return how many channels gave their bias away."""
    biases = [str(pair.first.spec.bias) for pair in network.pairs if pair.first.spec.bias]
    return sum(int((before[b] > network.program.tensors[b]).sum()) for b in biases)
