"""Images moved before the teacher sees them; gradients reach the images that they come from.

The Knowledge Within shows the teacher several copies of every image. Each copy of the batch passes
none, one or two of the following, chosen and ordered at random:

    flip      left to right, and top to bottom, each with probability 0.2, the whole batch
    crop      a box whose sides are uniform in 1/3..1 of the image's, enlarged to the whole image
    cut out   up to four boxes of up to a third of each side become 0, the mean of normalized pixels

ClusterQ crops half of its batches to a share of their area uniform in `least`..1, with an aspect
between 3/4 and 4/3, and mirrors half of their images. Boxes lie anywhere within the image and are
enlarged by bilinear interpolation.

Sources: Haroush et al., "The Knowledge Within", CVPR 2020 (authors' code:
amishacorns/quantized.pytorch); Gao et al., "ClusterQ", arXiv 2205.00179 (authors' code:
DiamondSheep/ClusterQ).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

FLIPS = 0.2  # the probability of each of the two flips
SMALLEST = 1 / 3  # of a side, of a crop
HOLES, LARGEST_HOLE = 4, 1 / 3  # the most boxes that are cut out; of a side


def augmented_copies(images: Tensor, copies: int, generator: Generator) -> Tensor:
    """Return (copies B, C, H, W): one copy of the batch (B, C, H, W) after another."""
    return torch.cat([_augment(images, generator) for _ in range(copies)])


def crop_half_the_time(images: Tensor, least: float, generator: Generator) -> Tensor:
    """Return a batch (B, C, H, W) as it is, or every image cropped to `least` of its area or more.

    Half of the cropped ones are mirrored as well.
    """
    if bool(torch.rand((), generator=generator) < 0.5):
        return images
    n = len(images)
    area = least + (1 - least) * torch.rand(n, generator=generator)
    aspect = torch.exp(math.log(4 / 3) * (2 * torch.rand(n, generator=generator) - 1))
    sides = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], 1).clamp_max(1.0)
    mirrored = torch.rand(n, generator=generator) < 0.5
    return crop_and_resize(images, sides, generator, mirrored=mirrored)


def crop_and_resize(
    images: Tensor, sides: Tensor, generator: Generator, *, mirrored: Tensor | None = None
) -> Tensor:
    """Return a random box of every image (B, C, H, W), enlarged to the image's size.

    `sides` (B, 2) are height and width over the image's, `mirrored` (B,) who is turned left to
    right.
    """
    free = 1 - sides
    middle = free * (2 * torch.rand(sides.shape, generator=generator) - 1)  # (B, 2) in -1..1
    height, width = sides.unbind(1)
    if mirrored is not None:
        width = torch.where(mirrored, -width, width)
    none = torch.zeros_like(height)
    across = torch.stack([width, none, middle[:, 1]], 1)
    down = torch.stack([none, height, middle[:, 0]], 1)
    grid = functional.affine_grid(
        torch.stack([across, down], 1), list(images.shape), align_corners=False
    )
    return functional.grid_sample(
        images, grid.to(images), padding_mode="border", align_corners=False
    )


def cut_out(images: Tensor, generator: Generator) -> Tensor:
    """Return the images (B, C, H, W) with up to four boxes each set to 0."""
    n, _, height, width = images.shape
    count = torch.randint(HOLES + 1, (n, 1), generator=generator)
    drawn = torch.arange(HOLES) < count  # (B, 4)

    def inside(length: int) -> Tensor:
        half = LARGEST_HOLE / 2 * torch.rand(n, HOLES, 1, generator=generator)
        middle = torch.rand(n, HOLES, 1, generator=generator)
        places = (torch.arange(length) + 0.5) / length
        return (places - middle).abs() <= half  # (B, 4, length)

    rows, columns = inside(height), inside(width)
    holes = rows[:, :, :, None] & columns[:, :, None, :] & drawn[:, :, None, None]
    return images * (~holes.any(1, keepdim=True)).to(images)


def _augment(images: Tensor, generator: Generator) -> Tensor:
    order = torch.randperm(3, generator=generator)
    chosen = order[: int(torch.randint(3, (), generator=generator))]
    for each in chosen.tolist():
        if each == 0:
            images = _flip(images, generator)
        elif each == 1:
            sides = SMALLEST + (1 - SMALLEST) * torch.rand(len(images), 2, generator=generator)
            images = crop_and_resize(images, sides, generator)
        else:
            images = cut_out(images, generator)
    return images


def _flip(images: Tensor, generator: Generator) -> Tensor:
    drawn = torch.rand(2, generator=generator) < FLIPS
    axes = [axis for axis, flips in zip((3, 2), drawn.tolist(), strict=True) if flips]
    return images.flip(axes) if axes else images
