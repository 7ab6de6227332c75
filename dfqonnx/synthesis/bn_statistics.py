"""Channel statistics: those that BatchNormalization stored, and those of a set of images.

A channel of a tapped value has mean m and variance v on a batch, m* and v* on the training data.
Read as Gaussians, their distance is

    KL(N(m, v) || N(m*, v*)) = ((m - m*)^2 + v) / (2 v*) - log(v / v*) / 2 - 1/2

It does not change when a channel is rescaled, so every channel and layer counts alike. Only what is
known is compared, so a network that kept some of its BatchNormalization uses the rest.

Source: the KL form of data-free distillation (Choi et al. 2020), on folded graphs: the output of a
BatchNormalization has mean beta and variance gamma^2 var / (var + eps) on the training data.

Folding BatchNormalization into the weights loses its statistics for good. What dead leaves make of
every Conv is the next best thing: it has means and variances of the right order, since photographs
and dead leaves share their spectrum. Optimized images are held near these surrogates while the
class term moves them; without any anchor they drift three times as far from what the network was
trained on (measured on a network whose statistics were hidden).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics

Moments = tuple[Tensor, Tensor]  # mean and variance per channel, (C,) each
FLOOR = 1e-3  # of a layer's median variance: keeps dead channels from drowning the others
LEAST_GAIN = 1e-3  # of a layer's median gain: the same, where statistics are those of the input


class BatchNormTargets:
    """The stored statistics as tensors on one device, by the name of the value.

    A value of which some statistic is not finite is left out.
    """

    def __init__(self, statistics: Mapping[str, ChannelStatistics], device: torch.device) -> None:
        self.mean: dict[str, Tensor] = {}  # (C,)
        self.variance: dict[str, Tensor] = {}  # (C,), at least `FLOOR` of its median
        self.to_input: dict[str, Tensor] = {}  # (C,), 1 / |gain|: scales a deviation to the input's
        for name, known in statistics.items():
            mean = torch.as_tensor(known.mean, dtype=torch.float32, device=device)
            variance = torch.as_tensor(known.variance, dtype=torch.float32, device=device)
            if not bool(torch.isfinite(mean).all() and torch.isfinite(variance).all()):
                continue
            self.mean[name] = mean
            self.variance[name] = variance.clamp_min(max(1e-8, FLOOR * float(variance.median())))
            self.to_input[name] = torch.ones_like(mean)
            if known.gain is not None:
                gain = torch.as_tensor(known.gain, dtype=torch.float32, device=device).abs()
                least = max(1e-8, LEAST_GAIN * float(gain.median()))
                self.to_input[name] = gain.clamp_min(least).reciprocal()

    def __len__(self) -> int:
        """Return how many values are known."""
        return len(self.mean)

    def pairs(self, taps: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Moments]]:
        """Yield every tapped value (N, C, ...) that is known, and its mean and variance."""
        for name, mean in self.mean.items():
            if name in taps:
                yield taps[name], (mean, self.variance[name])

    def pairs_at_input(
        self, taps: Mapping[str, Tensor]
    ) -> Iterator[tuple[Tensor, Tensor, Moments]]:
        """Yield the same with factors (C,) in the middle, as BatchNormalization reads the value.

        Differences of means, and deviations, of the value have to be multiplied by the factors. The
        mean that follows is multiplied already, and so is the variance, by their squares.
        """
        for name, mean in self.mean.items():
            if name in taps:
                by = self.to_input[name]
                yield taps[name], by, (mean * by, self.variance[name] * by.square())


def moments(value: Tensor) -> Moments:
    """Return mean and biased variance per channel of a value (N, C, ...), each (C,)."""
    mean, variance = _Moments.apply(value)  # type: ignore[no-untyped-call]
    return mean, variance


class _Moments(torch.autograd.Function):
    """Mean m and variance, in float32 at least, with both gradients in one pass over y.

    d loss / d y = (g_m + 2 g_v (y - m)) / n, in the type of y. Both are what BatchNormalization
    computes, of a batch and with given statistics, and PyTorch's kernels for it are two to ten
    times as fast on a CPU as sums and products of tensors.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Moments:
        sums = torch.promote_types(value.dtype, torch.float32)
        kept = value.new_zeros(value.shape[1], dtype=sums)
        mean, variance = torch.batch_norm_update_stats(value, kept, kept.clone(), 1.0)
        ctx.save_for_backward(value, mean)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        value, mean = ctx.saved_tensors
        count = value.numel() // value.shape[1]
        per_mean, per_variance = gradients[0] / count, 2.0 * gradients[1] / count
        one = torch.ones_like(mean)
        return functional.batch_norm(value, mean, one, per_variance, per_mean, eps=0.0)


def gaussian_distance(
    mean: Tensor, variance: Tensor, target_mean: Tensor, target_variance: Tensor
) -> Tensor:
    """Return KL(N(mean, variance) || N(target_mean, target_variance)) per channel, (C,)."""
    ratio = variance.clamp_min(1e-8) / target_variance
    return 0.5 * ((mean - target_mean).square() / target_variance + ratio - ratio.log() - 1.0)


@torch.no_grad()
def measure_moments(
    net: ProgramModule, batches: Iterable[Tensor], *, dtype: torch.dtype
) -> tuple[dict[str, Moments], int]:
    """Return mean and variance per channel of every tapped value over a set, and the set's size.

    `dtype` is that of the sums of E[y] and E[y^2].
    """
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        for name, value in net(batch)[1].items():
            mean, variance = (part.to(dtype) for part in moments(value))
            first[name] = first.get(name, 0) + len(batch) * mean
            second[name] = second.get(name, 0) + len(batch) * (variance + mean.square())
        count += len(batch)
    found = {}
    for name, total in first.items():
        mean = total / count
        found[name] = mean, (second[name] / count - mean.square()).clamp_min(0.0)
    return found, count


IMAGES = 256
VALUES = 2**22  # pixels of all images together


def surrogate_statistics(
    teacher: Program, images: Tensor, inputs: InputFormat, *, batch: int, context: RunContext
) -> dict[str, ChannelStatistics]:
    """Return mean and variance per channel of every Conv's output on the first of some images.

    They are uint8 (N, H, W, C); `batch` of them make one pass.
    """
    names = tuple(str(step.outputs[0]) for step in teacher.steps if step.op == "Conv")
    net = ProgramModule(teacher, taps=names, outputs=(), channels_last=True).to(context.device)
    count = max(8, min(IMAGES, len(images), VALUES // prod(images.shape[1:])))
    parts = torch.split(images[:count], batch)
    batches = (inputs.to_tensor(part.to(context.device)) for part in parts)
    found, _ = measure_moments(net, batches, dtype=torch.float32)
    return {
        name: ChannelStatistics(mean=mean.cpu().numpy(), variance=variance.cpu().numpy())
        for name, (mean, variance) in found.items()
    }
