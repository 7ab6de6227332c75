"""Losses on channel statistics, batch (m', v') against training data (m, v).

    batchnorm-kl           KL(N(m', v') || N(m, v))        mean over channels, then over layers
    batchnorm-kl-sum       the same                        sum over channels and layers
    batchnorm-kl-reverse   KL(N(m, v) || N(m', v'))        sum over channels and layers
    batchnorm-mse          mean (m' - m)^2 + mean (v' - v)^2           mean over layers
    batchnorm-pseudo-kl    mean ( u - v log u + (m' - m)^2 ),  u unbiased v'   sum over layers

The first three do not change when a channel is rescaled. The pseudo-KL is least, v - v log v, at
m' = m and u = v. All are measured behind BatchNormalization, where the folded graph still has the
value; papers measure before it, which is the same for the first three and differs by each channel's
gamma^2 / var in the others.

Sources: Choi et al., CVPR Workshops 2020 (first two); Haroush et al., "The Knowledge Within", CVPR
2020 (reverse); Xu et al., "GDFQ", ECCV 2020 (MSE); Li et al., "DFQF", ACML 2020 (pseudo-KL).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dfqonnx.synth.objective import Seen, image_loss
from dfqonnx.synth.statistics import gaussian_distance, moments

LEAST = 1e-8


@image_loss("batchnorm-kl", needs=("statistics",))
def batchnorm_kl(seen: Seen) -> Tensor:
    """Return KL(images || training data), mean over channels, then over layers."""
    return seen.targets.loss(seen.taps)


@image_loss("batchnorm-kl-sum", needs=("statistics",))
def batchnorm_kl_sum(seen: Seen) -> Tensor:
    """Return KL(images || training data), summed over channels and layers."""
    return torch.stack(
        [gaussian_distance(*batch, *known).sum() for batch, known, _ in layers(seen)]
    ).sum()


@image_loss("batchnorm-kl-reverse", needs=("statistics",))
def batchnorm_kl_reverse(seen: Seen) -> Tensor:
    """Return KL(training data || images), summed over channels and layers."""
    found = []
    for (mean, variance), known, _ in layers(seen):
        least = (1e-3 * known[1]).clamp_min(LEAST)  # a channel that the batch leaves dead
        found.append(gaussian_distance(*known, mean, torch.maximum(variance, least)).sum())
    return torch.stack(found).sum()


@image_loss("batchnorm-mse", needs=("statistics",))
def batchnorm_mse(seen: Seen) -> Tensor:
    """Return the mean squared error of means plus that of variances, mean over layers."""
    found = [
        (mean - known[0]).square().mean() + (variance - known[1]).square().mean()
        for (mean, variance), known, _ in layers(seen)
    ]
    return torch.stack(found).mean()


@image_loss("batchnorm-pseudo-kl", needs=("statistics",))
def batchnorm_pseudo_kl(seen: Seen) -> Tensor:
    """Return DFQF's divergence, mean over channels, summed over layers."""
    found = []
    for (mean, variance), known, count in layers(seen):
        unbiased = (variance * (count / max(1, count - 1))).clamp_min(LEAST)
        offset = (mean - known[0]).square()
        found.append((unbiased - known[1] * unbiased.log() + offset).mean())
    return torch.stack(found).sum()


def layers(seen: Seen) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]]:
    """Yield (m', v') of the batch, (m, v) of the training data, values per channel; by layer."""
    for name, mean in seen.targets.mean.items():
        if name in seen.taps:
            value = seen.taps[name]
            count = value.numel() // value.shape[1]
            yield moments(value), (mean, seen.targets.variance[name]), count
