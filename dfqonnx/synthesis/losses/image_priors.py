"""Priors of natural images: how neighboring pixels are related.

blur          mean (x - g * x)^2, g a Gaussian of 5 x 5 places and deviation 1, edges repeated
              (The Knowledge Within, CVPR 2020; its authors' code amishacorns/quantized.pytorch)
smooth-norm   |dx| + |dy| + |dxy| + |dyx|, the Euclidean norms of all differences of
              neighbors across, down and on both diagonals (DeepInversion, CVPR 2020)
smooth        mean |dx| + mean |dy|, total variation (Rudin, Osher and Fatemi 1992)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss


@image_loss("blur")
def blur(inputs: ImageLossInputs) -> Tensor:
    """Return the mean squared difference of images (B, C, H, W) from their blurred copies."""
    images = inputs.images
    line = torch.exp(-0.5 * images.new_tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).square())
    kernel = torch.outer(line, line) / line.sum().square()  # (5, 5)
    channels = images.shape[1]
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    blurred = functional.conv2d(padded, kernel.repeat(channels, 1, 1, 1), groups=channels)
    return (images - blurred).square().mean()


@image_loss("smooth-norm")
def smooth_norm(inputs: ImageLossInputs) -> Tensor:
    """Return the sum of four norms of differences."""
    x = inputs.images
    return (
        _norm(x[..., 1:] - x[..., :-1])
        + _norm(x[:, :, 1:] - x[:, :, :-1])
        + _norm(x[:, :, 1:, :-1] - x[:, :, :-1, 1:])
        + _norm(x[:, :, 1:, 1:] - x[:, :, :-1, :-1])
    )


def _norm(value: Tensor) -> Tensor:
    """Return the Euclidean norm; its gradient is finite at 0 too."""
    return (value.square().sum() + 1e-12).sqrt()


@image_loss("smooth")
def smooth(inputs: ImageLossInputs) -> Tensor:
    """Return the mean absolute difference of neighbors, down plus across."""
    x = inputs.images
    total = x.new_zeros(())
    if x.shape[2] > 1:
        total = total + (x[:, :, 1:] - x[:, :, :-1]).abs().mean()
    if x.shape[3] > 1:
        total = total + (x[..., 1:] - x[..., :-1]).abs().mean()
    return total
