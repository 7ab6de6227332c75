"""How far the statistics of a batch are from those that BatchNormalization remembers.

A channel of a tapped value has mean m, variance v on the batch and m*, v* on the training data.
Read as Gaussians, their distance is

    KL(N(m, v) || N(m*, v*)) = ((m - m*)^2 + v) / (2 v*) - log(v / v*) / 2 - 1/2

which does not change when a channel is rescaled, so every channel and layer counts alike. It is
averaged over channels, then over layers: 0 for a perfect match. Only what is known is compared, so
networks that kept some of their BatchNormalization use the rest.

Source: the KL form of data-free distillation (Choi et al. 2020), on folded graphs: the output of a
BatchNormalization has mean beta and variance gamma^2 var / (var + eps) on the training data.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dfqonnx.spec.sites import ChannelStatistics

FLOOR = 1e-3  # of a layer's median variance: keeps dead channels from drowning the others


class Targets:
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
    rest = [axis for axis in range(value.dim()) if axis != 1]
    variance, mean = torch.var_mean(value, dim=rest, correction=0)
    return mean, variance


def gaussian_distance(
    mean: Tensor, variance: Tensor, target_mean: Tensor, target_variance: Tensor
) -> Tensor:
    """Return KL(N(mean, variance) || N(target_mean, target_variance)) per channel, (C,)."""
    ratio = variance.clamp_min(1e-8) / target_variance
    return 0.5 * ((mean - target_mean).square() / target_variance + ratio - ratio.log() - 1.0)
