"""Losses on channel statistics, those of the batch (m', v') against the training data's (m, v).

    batchnorm-kl           KL(N(m', v') || N(m, v))        mean over channels, then over layers
    batchnorm-kl-sum       the same                        sum over channels and layers
    batchnorm-mse          mean (m' - m)^2 + mean (v' - v)^2           mean over layers
    batchnorm-pseudo-kl    mean ( u - v log u + (m' - m)^2 ),  u unbiased v'   sum over layers
    batchnorm-norm         |m' - m|_2 + |v' - v|_2 over channels               sum over layers
    batchnorm-sample       1/B sum over images n, layers l, channels c
                               (m_nlc - m_lc)^2 + (s_nlc - s_lc)^2

The first two do not change when a channel is rescaled. The pseudo-KL is least, v - v log v, at
m' = m and u = v. The norms are not squared: a layer that is far off pulls no harder than its share.
`batchnorm-sample` asks the training data's statistics of every image by itself: its mean m_n and
unbiased deviation s_n = sqrt(v_n + 1e-6) are over the places of one image, and the normalized input
counts as one more layer, of mean 0 and deviation 1. So it does in `batchnorm-kl` with `input` 1.
Where pixels are not normalized by the training data's mean and deviation, the input is left out.

Papers measure what BatchNormalization reads. The folded graph has what it puts out: gain times that
plus a constant. The others are computed on the value divided by its gain, which is what papers see.

Sources: Choi et al., CVPR Workshops 2020 (KL, summed); Haroush et al., "The Knowledge Within", CVPR
2020, and its authors' code amishacorns/quantized.pytorch (KL, means, with the input); Xu et al.,
"GDFQ", ECCV 2020 (MSE); Li et al., "DFQF", ACML 2020 (pseudo-KL); Yin et al., "Dreaming to Distill"
(DeepInversion), CVPR 2020 (norm); Cai et al., "ZeroQ", CVPR 2020 (sample).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dfqonnx.synthesis.bn_statistics import Moments, gaussian_distance, moments
from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss

LEAST = 1e-8
LEAST_SAMPLE_VARIANCE = 1e-6


@image_loss("batchnorm-kl", needs=("statistics",))
def batchnorm_kl(inputs: ImageLossInputs, *, input: float = 0.0) -> Tensor:
    """Return KL(images || training data), mean over channels, then over layers.

    The network's input is one more layer unless `input` is 0.
    """
    pairs = inputs.targets.pairs(inputs.taps)
    found = [gaussian_distance(*moments(y), *known).mean() for y, known in pairs]
    if input and inputs.normalized:
        mean, variance = moments(inputs.images if inputs.shown is None else inputs.shown)
        unit = torch.zeros_like(mean), torch.ones_like(mean)
        found.append(gaussian_distance(mean, variance, *unit).mean())
    return torch.stack(found).mean()


@image_loss("batchnorm-kl-sum", needs=("statistics",))
def batchnorm_kl_sum(inputs: ImageLossInputs) -> Tensor:
    """Return KL(images || training data), summed over channels and layers."""
    pairs = inputs.targets.pairs(inputs.taps)
    return torch.stack([gaussian_distance(*moments(y), *known).sum() for y, known in pairs]).sum()


@image_loss("batchnorm-mse", needs=("statistics",))
def batchnorm_mse(inputs: ImageLossInputs) -> Tensor:
    """Return the mean squared error of means plus that of variances, mean over layers."""
    found = []
    for _, mean, variance, known in _moments_at_input(inputs):
        found.append((mean - known[0]).square().mean() + (variance - known[1]).square().mean())
    return torch.stack(found).mean()


@image_loss("batchnorm-pseudo-kl", needs=("statistics",))
def batchnorm_pseudo_kl(inputs: ImageLossInputs) -> Tensor:
    """Return DFQF's divergence, mean over channels, summed over layers."""
    found = []
    for value, mean, variance, known in _moments_at_input(inputs):
        count = value.numel() // value.shape[1]
        unbiased = (variance * (count / max(1, count - 1))).clamp_min(LEAST)
        offset = (mean - known[0]).square()
        found.append((unbiased - known[1] * unbiased.log() + offset).mean())
    return torch.stack(found).sum()


@image_loss("batchnorm-norm", needs=("statistics",))
def batchnorm_norm(inputs: ImageLossInputs) -> Tensor:
    """Return the distances of means and of variances, summed over layers."""
    found = []
    for _, mean, variance, known in _moments_at_input(inputs):
        found.append((mean - known[0]).norm() + (variance - known[1]).norm())
    return torch.stack(found).sum()


@image_loss("batchnorm-sample", needs=("statistics",))
def batchnorm_sample(inputs: ImageLossInputs) -> Tensor:
    """Return the squared distances of every image's statistics, summed, mean over images."""
    images = inputs.images
    one, loss = images.new_ones(()), images.new_zeros(())
    if inputs.normalized:
        loss = _sample_distance(images, one, torch.zeros_like(one), one)
    for value, by, (mean, variance) in inputs.targets.pairs_at_input(inputs.taps):
        if value.dim() > 2:
            deviation = (variance + LEAST_SAMPLE_VARIANCE).sqrt()
            loss = loss + _sample_distance(value, by, mean, deviation)
    return loss


def _moments_at_input(
    inputs: ImageLossInputs,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Moments]]:
    """Yield values with their mean and variance, and the known ones, at the normalization's input.

    The value itself is what BatchNormalization puts out.
    """
    for value, by, known in inputs.targets.pairs_at_input(inputs.taps):
        mean, variance = moments(value)
        yield value, mean * by, variance * by.square(), known


def _sample_distance(value: Tensor, by: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the mean over images of the distance of a value (B, C, ...), summed over channels.

    The value's own mean and deviation are multiplied by `by`, (C,), before they are compared.
    """
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    places = value.flatten(2)  # (B, C, P)
    own_mean = by * places.mean(2)  # (B, C)
    variance = places.var(2, correction=min(1, places.shape[2] - 1))
    own = (by.square() * variance + LEAST_SAMPLE_VARIANCE).sqrt()
    total = (own_mean - mean).square() + (own - deviation).square()
    return total.sum() / len(value)
