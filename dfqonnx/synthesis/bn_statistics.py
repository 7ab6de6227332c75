"""How far the statistics of a batch are from those that BatchNormalization remembers.

A channel of a tapped value has mean m, variance v on the batch and m*, v* on the training data.
Read as Gaussians, their distance is

    KL(N(m, v) || N(m*, v*)) = ((m - m*)^2 + v) / (2 v*) - log(v / v*) / 2 - 1/2

which does not change when a channel is rescaled, so every channel and layer counts alike. It is
averaged over channels, then over layers: 0 for a perfect match. Only what is known is compared, so
networks that kept some of their BatchNormalization use the rest.

Source: the KL form of data-free distillation (Choi et al. 2020), on folded graphs: the output of a
BatchNormalization has mean beta and variance gamma^2 var / (var + eps) on the training data.

Stand-ins for BatchNormalization statistics where a file has none.

Folding BatchNormalization into the weights loses its statistics for good. What dead leaves make of
every Conv is the next best thing: means and variances of the right order, since photographs and
dead leaves share their spectrum. Optimized images are held near these while the class term moves
them; without any anchor they drift three times as far from what the network was trained on
(measured on a network whose statistics were hidden).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics

FLOOR = 1e-3  # of a layer's median variance: keeps dead channels from drowning the others


class BatchNormTargets:
    """The remembered statistics as tensors on one device.

    Args:
        statistics: value name -> mean and variance per channel.
        device: where the batches are.
    """

    def __init__(self, statistics: Mapping[str, ChannelStatistics], device: torch.device) -> None:
        self.mean: dict[str, Tensor] = {}
        self.variance: dict[str, Tensor] = {}
        for name, known in statistics.items():
            mean = torch.as_tensor(known.mean, dtype=torch.float32, device=device)
            variance = torch.as_tensor(known.variance, dtype=torch.float32, device=device)
            if not bool(torch.isfinite(mean).all() and torch.isfinite(variance).all()):
                continue
            self.mean[name] = mean  # (C,)
            self.variance[name] = variance.clamp_min(max(1e-8, FLOOR * float(variance.median())))

    def __len__(self) -> int:
        """Return how many values are known."""
        return len(self.mean)

    def loss(self, taps: Mapping[str, Tensor]) -> Tensor:
        """Return the mean distance over the tapped values; 0 where nothing is known."""
        distances = [
            gaussian_distance(*moments(taps[name]), self.mean[name], self.variance[name]).mean()
            for name in self.mean
            if name in taps
        ]
        return torch.stack(distances).mean() if distances else torch.zeros(())


def moments(value: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance per channel of a value (N, C, ...), each (C,)."""
    mean, variance = _Moments.apply(value)  # type: ignore[no-untyped-call]
    return mean, variance


class _Moments(torch.autograd.Function):
    """Mean m and E[y^2] - m^2, with both gradients in one pass over y.

    d loss / d y = (g_m + 2 g_v (y - m)) / n. Several times faster on a CPU than `var_mean`.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> tuple[Tensor, Tensor]:
        rest = [axis for axis in range(value.dim()) if axis != 1]
        mean = value.mean(rest)
        variance = (value * value).mean(rest) - mean * mean
        ctx.save_for_backward(value, mean)
        return mean, variance.clamp_min(0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        value, mean = ctx.saved_tensors
        count = value.numel() // value.shape[1]
        per_mean, per_variance = gradients[0] / count, 2.0 * gradients[1] / count
        view = (1, -1, *[1] * (value.dim() - 2))
        offset = (per_mean - per_variance * mean).view(view)
        return torch.addcmul(offset, value, per_variance.view(view))


def gaussian_distance(
    mean: Tensor, variance: Tensor, target_mean: Tensor, target_variance: Tensor
) -> Tensor:
    """Return KL(N(mean, variance) || N(target_mean, target_variance)) per channel, (C,)."""
    ratio = variance.clamp_min(1e-8) / target_variance
    return 0.5 * ((mean - target_mean).square() / target_variance + ratio - ratio.log() - 1.0)


IMAGES = 256
VALUES = 2**22  # pixels of all images together


@torch.no_grad()
def surrogate_statistics(
    teacher: Program, images: Tensor, inputs: InputFormat, *, batch: int, device: torch.device
) -> dict[str, ChannelStatistics]:
    """Return mean and variance per channel of every Conv's output on uint8 images (N, H, W, C).

    Args:
        teacher: the float network.
        images: procedural images; the first few hundred are enough.
        inputs: how pixels become the teacher's tensor.
        batch: images shown at once.
        device: where to compute.
    """
    names = tuple(str(step.outputs[0]) for step in teacher.steps if step.op == "Conv")
    net = ProgramModule(teacher, taps=names, outputs=(), channels_last=True).to(device)
    count = max(8, min(IMAGES, len(images), VALUES // prod(images.shape[1:])))
    first = {name: torch.zeros(()) for name in names}  # sums of E[y] and E[y^2]
    second = {name: torch.zeros(()) for name in names}
    for part in torch.split(images[:count], batch):
        _, taps = net(inputs.to_tensor(part.to(device)))
        for name, value in taps.items():
            mean, variance = moments(value)
            first[name] = first[name] + (mean * len(part)).cpu()
            second[name] = second[name] + ((variance + mean.square()) * len(part)).cpu()
    return {
        name: ChannelStatistics(
            mean=(first[name] / count).numpy(),
            variance=(second[name] / count - (first[name] / count).square()).clamp_min(0).numpy(),
        )
        for name in names
    }
