"""How far an image set is from the training data, as BatchNormalization remembers it.

A channel has mean m and variance v on the training data, m' and v' on the image set D. Read as
Gaussians, layer l is off by

    J_l(D) = mean over channels of KL(N(m', v') || N(m, v))
    KL     = log(v / v') / 2 + (v' + (m' - m)^2) / (2 v) - 1/2

The network's input is one more layer, of m = 0 and v = 1, where pixels are normalized by mean and
deviation of photographs. J(D) is the sum over layers; divided by their number it compares networks.
0 is the training data.
Statistics are those of the whole set, so a set of many images that are each unlike a photograph
can still score well together. A channel's KL is the same before and after an affine map, so the
outputs of BatchNormalization, which the folded graph still has, tell what its inputs would.

The reverse, KL(N(m, v) || N(m', v')) without the input, grows where a set does not reach as far as
the training data. What is fitted to statistics is chosen by it: ranges that are too narrow cost
more than ranges that are too wide.

Source: Haroush, Hubara, Hoffer and Soudry, "The Knowledge Within", CVPR 2020 (BNS as a measure),
with direction, means and input layer after its authors' code, amishacorns/quantized.pytorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.synthesis.bn_statistics import (
    BatchNormTargets,
    Moments,
    gaussian_distance,
    measure_moments,
)

INPUT = "network input"
LEAST = 1e-3  # of a layer's median variance: a channel that the set leaves dead counts finitely


@dataclass(frozen=True)
class LayerDivergence:
    """The divergence of one layer."""

    name: str  # of the value that BatchNormalization puts out, or `INPUT`
    channels: int
    divergence: float  # mean over the channels, in nats


@dataclass(frozen=True)
class Divergence:
    """The divergence of an image set from the training data."""

    count: int  # of images
    layers: tuple[LayerDivergence, ...]  # in the network's order
    reverse: float  # of the training data from the set, mean over layers without the input

    @property
    def counts_input(self) -> bool:
        """Whether the network's input is one of the layers."""
        return any(layer.name == INPUT for layer in self.layers)

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
    inputs: InputFormat | None = None,
) -> Divergence:
    """Return how far a set, given in batches, is from `statistics` (at least one).

    The input counts as a layer where `inputs` standardize images.
    """
    shown = _ShownImages(batches, inputs)
    found, count = measure_image_moments(teacher, statistics, shown, context=context)
    known = BatchNormTargets(statistics, torch.device(context.device))
    layers = _compare(found, known, reverse=False)
    if layers:
        layers = (*shown.divergence(), *layers)
    return Divergence(count, layers, _mean(_compare(found, known, reverse=True)))


class _ShownImages:
    """Batches on their way to the network, with the moments of their channels."""

    def __init__(self, batches: Iterable[Tensor], inputs: InputFormat | None) -> None:
        standardized = inputs is not None and inputs.is_image and inputs.preprocessing.standardizes
        self._batches, self._inputs = batches, inputs if standardized else None
        self._first = self._second = torch.zeros(1, dtype=torch.float64)
        self._count = 0

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self._batches:
            if self._inputs is not None:
                images = self._inputs.from_layout(batch.detach().cpu().double())
                self._first = self._first + images.mean((2, 3)).sum(0)  # (C,)
                self._second = self._second + images.square().mean((2, 3)).sum(0)
                self._count += len(images)
            yield batch

    def divergence(self) -> tuple[LayerDivergence, ...]:
        """Return that of the input as a layer; nothing where it is not standardized."""
        if not self._count:
            return ()
        mean = self._first / self._count
        variance = self._second / self._count - mean.square()
        unit = torch.zeros_like(mean), torch.ones_like(mean)
        distance = gaussian_distance(mean, variance, *unit)
        return (LayerDivergence(INPUT, len(distance), float(distance.mean())),)


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


def reverse_divergence(
    found: Mapping[str, Moments], statistics: Mapping[str, ChannelStatistics], device: torch.device
) -> float:
    """Return that of the training data from a set with the moments `found`, mean over layers."""
    return _mean(_compare(found, BatchNormTargets(statistics, device), reverse=True))


def _mean(layers: Sequence[LayerDivergence]) -> float:
    return sum(layer.divergence for layer in layers) / max(1, len(layers))


def _compare(
    found: Mapping[str, Moments], known: BatchNormTargets, *, reverse: bool
) -> tuple[LayerDivergence, ...]:
    layers = []
    for name, target in known.mean.items():
        mean, variance = found[name]
        trained = known.variance[name].double()
        floor = trained.median() * LEAST
        trains = target.double(), trained
        images = mean, variance.maximum(floor.clamp_min(1e-8))
        ways = (trains, images) if reverse else (images, trains)
        distance = gaussian_distance(*ways[0], *ways[1])
        layers.append(LayerDivergence(name, len(distance), float(distance.mean())))
    return tuple(layers)
