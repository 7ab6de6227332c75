"""How far an image set is from the training data, as BatchNormalization remembers it.

A channel has mean m and variance v on the training data, m' and v' on the image set D. Read as
Gaussians, layer l is off by

    J_l(D) = mean over channels of KL(N(m, v) || N(m', v'))
    KL     = log(v' / v) / 2 + (v + (m - m')^2) / (2 v') - 1/2

J(D) is the sum over layers; divided by their number it compares networks. 0 is the training data.
Statistics are those of the whole set, so a set of many images that are each unlike a photograph
can still score well together. A channel's KL is the same before and after an affine map, so the
outputs of BatchNormalization, which the folded graph still has, tell what its inputs would.

Source: Haroush, Hubara, Hoffer and Soudry, "The Knowledge Within", CVPR 2020 (BNS as a measure).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.synthesis.bn_statistics import (
    BatchNormTargets,
    Moments,
    gaussian_distance,
    measure_moments,
)

LEAST = 1e-3  # of a layer's median variance: a channel that the set leaves dead counts finitely


@dataclass(frozen=True)
class LayerDivergence:
    """The divergence of one layer."""

    name: str  # of the value that BatchNormalization puts out
    channels: int
    divergence: float  # mean over the channels, in nats


@dataclass(frozen=True)
class Divergence:
    """The divergence of an image set from the training data."""

    count: int  # of images
    layers: tuple[LayerDivergence, ...]  # in the network's order

    @property
    def total(self) -> float:
        """J(D): the sum over layers, in nats."""
        return sum(layer.divergence for layer in self.layers)

    @property
    def divergence(self) -> float:
        """The mean over layers, in nats: what is compared across networks."""
        return self.total / len(self.layers)

    def worst(self, count: int = 3) -> tuple[LayerDivergence, ...]:
        """Return the layers that are furthest off, the furthest first."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.divergence)[:count])


@torch.no_grad()
def measure_divergence(
    teacher: Program,
    statistics: Mapping[str, ChannelStatistics],
    batches: Iterable[Tensor],
    *,
    context: RunContext,
) -> Divergence:
    """Return how far a set, given in batches, is from `statistics` (at least one)."""
    found, count = measure_image_moments(teacher, statistics, batches, context=context)
    known = BatchNormTargets(statistics, torch.device(context.device))
    return Divergence(count, _compare(found, known))


@torch.no_grad()
def measure_image_moments(
    teacher: Program,
    statistics: Mapping[str, ChannelStatistics],
    batches: Iterable[Tensor],
    *,
    context: RunContext,
) -> tuple[dict[str, Moments], int]:
    """Return mean and variance per channel, in float64, of the values that statistics know.

    They are those over a set, given in batches; the number of its images comes with them.
    """
    known = BatchNormTargets(statistics, torch.device(context.device))
    net = ProgramModule(teacher, taps=tuple(known.mean), outputs=(), channels_last=True)
    net = net.to(context.device)
    sent = (batch.to(context.device) for batch in batches)
    return measure_moments(net, sent, dtype=torch.float64)


def moments_divergence(
    found: Mapping[str, Moments], statistics: Mapping[str, ChannelStatistics], device: torch.device
) -> float:
    """Return the mean divergence over layers of a set with the moments `found`, in nats."""
    layers = _compare(found, BatchNormTargets(statistics, device))
    return sum(layer.divergence for layer in layers) / max(1, len(layers))


def _compare(found: Mapping[str, Moments], known: BatchNormTargets) -> tuple[LayerDivergence, ...]:
    layers = []
    for name, target in known.mean.items():
        mean, variance = found[name]
        trained = known.variance[name].double()
        floor = trained.median() * LEAST
        distance = gaussian_distance(
            target.double(), trained, mean, variance.maximum(floor.clamp_min(1e-8))
        )
        layers.append(LayerDivergence(name, len(distance), float(distance.mean())))
    return tuple(layers)
