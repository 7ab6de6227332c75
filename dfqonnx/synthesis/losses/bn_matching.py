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

`batchnorm-norm`: Euclidean distances, |m' - m|_2 + |v' - v|_2 over channels, sum over layers.

m', v' are mean and variance of a channel on the batch, m and v on the training data; measured
behind BatchNormalization, where the folded graph still has the value. Not squared: a layer that is
far off pulls no harder than its share.

Source: Yin et al., "Dreaming to Distill" (DeepInversion), CVPR 2020.

`batchnorm-sample`: every image by itself is to have the training data's channel statistics.

    1/B sum over images n, layers l, channels c  (m_nlc - m_lc)^2 + (s_nlc - s_lc)^2

with the mean m_n and the deviation s_n = sqrt(v_n + 1e-6) over the places of one image, s alike;
the normalized input counts as one more layer, of mean 0 and deviation 1.

Source: Cai et al., "ZeroQ", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dfqonnx.synthesis.bn_statistics import gaussian_distance, moments
from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss

LEAST = 1e-8


@image_loss("batchnorm-kl", needs=("statistics",))
def batchnorm_kl(seen: ImageLossInputs) -> Tensor:
    """Return KL(images || training data), mean over channels, then over layers."""
    return seen.targets.loss(seen.taps)


@image_loss("batchnorm-kl-sum", needs=("statistics",))
def batchnorm_kl_sum(seen: ImageLossInputs) -> Tensor:
    """Return KL(images || training data), summed over channels and layers."""
    return torch.stack(
        [gaussian_distance(*batch, *known).sum() for batch, known, _ in layers(seen)]
    ).sum()


@image_loss("batchnorm-kl-reverse", needs=("statistics",))
def batchnorm_kl_reverse(seen: ImageLossInputs) -> Tensor:
    """Return KL(training data || images), summed over channels and layers."""
    found = []
    for (mean, variance), known, _ in layers(seen):
        least = (1e-3 * known[1]).clamp_min(LEAST)  # a channel that the batch leaves dead
        found.append(gaussian_distance(*known, mean, torch.maximum(variance, least)).sum())
    return torch.stack(found).sum()


@image_loss("batchnorm-mse", needs=("statistics",))
def batchnorm_mse(seen: ImageLossInputs) -> Tensor:
    """Return the mean squared error of means plus that of variances, mean over layers."""
    found = [
        (mean - known[0]).square().mean() + (variance - known[1]).square().mean()
        for (mean, variance), known, _ in layers(seen)
    ]
    return torch.stack(found).mean()


@image_loss("batchnorm-pseudo-kl", needs=("statistics",))
def batchnorm_pseudo_kl(seen: ImageLossInputs) -> Tensor:
    """Return DFQF's divergence, mean over channels, summed over layers."""
    found = []
    for (mean, variance), known, count in layers(seen):
        unbiased = (variance * (count / max(1, count - 1))).clamp_min(LEAST)
        offset = (mean - known[0]).square()
        found.append((unbiased - known[1] * unbiased.log() + offset).mean())
    return torch.stack(found).sum()


def layers(
    seen: ImageLossInputs,
) -> Iterator[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]]:
    """Yield (m', v') of the batch, (m, v) of the training data, values per channel; by layer."""
    for name, mean in seen.targets.mean.items():
        if name in seen.taps:
            value = seen.taps[name]
            count = value.numel() // value.shape[1]
            yield moments(value), (mean, seen.targets.variance[name]), count


@image_loss("batchnorm-norm", needs=("statistics",))
def batchnorm_norm(seen: ImageLossInputs) -> Tensor:
    """Return the distances of means and of variances, summed over layers."""
    targets, found = seen.targets, []
    for name, known in targets.mean.items():
        if name in seen.taps:
            mean, variance = moments(seen.taps[name])
            found.append((mean - known).norm() + (variance - targets.variance[name]).norm())
    return torch.stack(found).sum()


LEAST_SAMPLE_VARIANCE = 1e-6


@image_loss("batchnorm-sample", needs=("statistics",))
def batchnorm_sample(seen: ImageLossInputs) -> Tensor:
    """Return the squared distances of every image's statistics, summed, mean over images."""
    loss = _distance(seen.images, seen.images.new_zeros(()), seen.images.new_ones(()))
    for name, mean in seen.targets.mean.items():
        if name in seen.taps and seen.taps[name].dim() > 2:
            deviation = (seen.targets.variance[name] + LEAST_SAMPLE_VARIANCE).sqrt()
            loss = loss + _distance(seen.taps[name], mean, deviation)
    return loss


def _distance(value: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the mean over images of the distance of a value (B, C, ...), summed over channels."""
    places = value.flatten(2)  # (B, C, P)
    own_mean = places.mean(2)  # (B, C)
    own = (places.var(2, correction=0) + LEAST_SAMPLE_VARIANCE).sqrt()
    total = (own_mean - mean).square() + (own - deviation).square()
    return total.sum() / len(value)
