"""Dead leaves: procedural images with the statistics of photographs, without any teacher.

An image is a stack of opaque shapes that occlude each other, painted back to front (Matheron's
dead-leaves model; Ruderman 1997, Lee, Mumford and Huang 2001 on why it resembles photographs):
    radius        density r^-2 between a smallest one and 0.8 of the image's side
    shape         ellipse or rectangle, any angle, log-normal aspect
    color        the image's mean, plus a luminance, plus a chroma that is much weaker
                  (photographs vary far more in luminance than in chroma)
    texture       Gaussian noise with amplitude f^-p, a linear gradient across the shape
`DeadLeavesParams` says how strong each of these is. Spectra come close to 1/f in amplitude. Small
images show little of a photograph's detail; large ones get more shapes, which are small relative to
the side, and flatter textures. Luminance and chroma of photographs have spectra f^-p, p between 0.8
and 1.5 (Tolhurst, Tadmor and Chao 1992); the planes of one texture share most of it, since
photographs are nearly gray. They report their progress, because large images take a while.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

THUMBNAIL = 64  # pixels of the longer side of a small image
DETAIL = 6.7  # pixels, the smallest radius in larger images
COVER = 3.1  # shapes times smallest radius (in sides), there


@dataclass(frozen=True, kw_only=True)
class DeadLeavesParams:
    """The parameters, by default of small images. Lengths in sides, intensities in 0..1."""

    shapes: int = 16  # the number of shapes in an image
    smallest: float = 0.12  # the smallest radius
    largest: float = 0.8  # the largest radius
    radius_power: float = 2.0  # p of the density r^-p
    aspect: float = 0.4  # standard deviation of the logarithm of the aspect
    rectangles: float = 0.4  # share of shapes that are rectangles
    level: float = 0.47  # mean intensity
    level_spread: float = 0.12  # its standard deviation over images
    contrast: float = 0.25  # standard deviation of the luminance of shapes
    chroma: float = 0.22  # standard deviation of the chroma of shapes, over that of luminance
    background: float = 0.6  # strength of the background's texture over `contrast`
    texture: float = 0.2  # greatest strength of a shape's texture
    slope: float = 1.5  # p of the textures' amplitude f^-p
    gradient: float = 0.15  # strength of the gradient across a shape


def params_for_size(side: int) -> DeadLeavesParams:
    """Return the parameters for images whose longer side is `side` pixels.

    They were chosen without images: for small ones on 32x32 networks, for larger ones where dead
    leaves come nearest to what the BatchNormalization of three networks of 128 to 320 pixels
    remembers (`pipelines/results/TRIALS.md`).
    """
    if side <= THUMBNAIL:
        return DeadLeavesParams()
    smallest = DETAIL / side
    return DeadLeavesParams(
        shapes=round(COVER / smallest),
        smallest=smallest,
        aspect=0.6,
        contrast=0.3,
        chroma=0.3,
        texture=0.3,
        slope=1.2,
        gradient=0.3,
    )


TEXTURE_VALUES = 2**23  # floats in the pool of textures


def sample_power_noise(shape: tuple[int, ...], *, slope: float, generator: Generator) -> Tensor:
    """Return noise (..., H, W) of amplitude f^-slope, mean 0 and variance 1 in each plane."""
    height, width = shape[-2:]
    down = torch.fft.fftfreq(height)[:, None]
    across = torch.fft.rfftfreq(width)[None]
    frequency = (down.square() + across.square()).sqrt()
    frequency[0, 0] = torch.inf
    spectrum = torch.fft.rfft2(torch.randn(shape, generator=generator))
    noise: Tensor = torch.fft.irfft2(spectrum * frequency.pow(-slope), s=(height, width))
    spread = noise.square().mean((-2, -1), keepdim=True).sqrt()
    return noise / spread.clamp_min(1e-12)


def sample_textures(
    params: DeadLeavesParams, size: tuple[int, int, int], generator: Generator
) -> Tensor:
    """Return a pool of textures (P, C, H, W): one shared luminance, a little chroma."""
    height, width, channels = size
    count = max(8, min(512, TEXTURE_VALUES // (height * width * (channels + 1))))
    noise = sample_power_noise(
        (count, channels + 1, height, width), slope=params.slope, generator=generator
    )
    if channels == 1:
        return noise[:, :1]
    return 0.85 * noise[:, :1] + 0.25 * noise[:, 1:]


CHUNK_VALUES = 2**20  # floats of one chunk of images
ALONE = 2**14  # floats of an image; a larger one is a chunk by itself


def dead_leaves(
    n: int,
    size: tuple[int, int, int],
    generator: Generator,
    *,
    params: DeadLeavesParams | None = None,
) -> Iterator[Tensor]:
    """Yield chunks of uint8 images (B, H, W, C), `n` in all; `params` None takes the size's."""
    params = params or params_for_size(max(size[:2]))
    frame = math.prod(size)
    pool = sample_textures(params, size, generator)  # (P, C, H, W)
    chunk = 1 if frame > ALONE else min(512, CHUNK_VALUES // frame)
    for first in range(0, n, chunk):
        images = _paint(min(chunk, n - first), pool, params, generator)  # (B, C, H, W)
        yield round_to_pixels(images.mul_(255)).permute(0, 2, 3, 1).contiguous()


def sample_dead_leaves(n: int, size: tuple[int, int, int], generator: Generator) -> Tensor:
    """Return all images of `dead_leaves` at once, uint8 (n, H, W, C)."""
    return torch.cat(list(dead_leaves(n, size, generator)))


@SOURCES.add("dead-leaves")
def yield_dead_leaves(context: SynthesisContext) -> Iterator[Tensor]:
    """Yield dead leaves, `plan.images` of them."""
    context.run.progress.start("synthesize", context.plan.images)
    for images in dead_leaves(context.plan.images, context.inputs.image_size, context.generator):
        context.run.progress.advance(len(images))
        yield images


def _paint(batch: int, pool: Tensor, params: DeadLeavesParams, generator: Generator) -> Tensor:
    """Return float images (B, C, H, W), not yet clamped to 0..1."""
    channels, height, width = pool.shape[1:]
    side = max(height, width)
    rows = ((torch.arange(height) + 0.5) / side)[:, None]
    columns = ((torch.arange(width) + 0.5) / side)[None]

    def normal(*size: int) -> Tensor:
        return torch.randn(batch, *size, generator=generator)

    def uniform() -> Tensor:
        return torch.rand(batch, 1, 1, generator=generator)

    def color() -> Tensor:
        chroma = 0.0 if channels == 1 else params.chroma
        return params.contrast * (normal(1, 1, 1) + chroma * normal(channels, 1, 1))

    def texture(top: int, bottom: int, left: int, right: int) -> Tensor:
        chosen = torch.randint(len(pool), (batch,), generator=generator)
        down = int(torch.randint(height, (), generator=generator))
        across = int(torch.randint(width, (), generator=generator))
        lines = torch.arange(top - down, bottom - down) % height
        planes = pool[int(chosen)][None] if batch == 1 else pool[chosen]  # a copy where several
        return planes.index_select(2, lines).roll(across, 3)[..., left:right]  # (B, C, h, w)

    tint = 0.0 if channels == 1 else 0.5
    mean = params.level + params.level_spread * (normal(1, 1, 1) + tint * normal(channels, 1, 1))
    whole = (0, height, 0, width)
    image = mean + color() + params.background * params.contrast * texture(*whole)  # (B, C, H, W)
    for _ in range(params.shapes):
        radius = _radii(uniform(), params)  # (B, 1, 1)
        middle = (uniform() * 1.2 - 0.1) * width / side
        center = (uniform() * 1.2 - 0.1) * height / side
        angle, aspect = uniform() * math.pi, torch.exp(params.aspect * normal(1, 1))
        rectangle = uniform() < params.rectangles
        reach = (radius + 1 / side) * torch.maximum(aspect, 1 / aspect) * math.sqrt(2)
        top, bottom = _span(center, reach, side, height)
        left, right = _span(middle, reach, side, width)
        along, up = columns[:, left:right] - middle, rows[top:bottom] - center
        x = (along * angle.cos() + up * angle.sin()) / aspect  # (B, h, w)
        y = (up * angle.cos() - along * angle.sin()) * aspect
        inside = torch.where(rectangle, torch.maximum(x.abs(), y.abs()), torch.hypot(x, y))
        cover = (0.5 - (inside - radius) * side).clamp_(0, 1).unsqueeze_(1)  # (B, 1, h, w)
        slope = ((x * normal(1, 1) + y * normal(1, 1)) / radius * params.gradient).clamp_(-0.5, 0.5)
        strength = params.texture * torch.rand(batch, 1, 1, 1, generator=generator).square()
        paint = mean + color() + slope.unsqueeze(1) + strength * texture(top, bottom, left, right)
        image[:, :, top:bottom, left:right].lerp_(paint, cover)
    return image


def _span(center: Tensor, reach: Tensor, side: int, length: int) -> tuple[int, int]:
    """Return first and last pixel (exclusive) of an axis that shapes of a chunk can touch."""
    first = math.floor(float((center - reach).min()) * side)
    last = math.ceil(float((center + reach).max()) * side)
    first = min(max(first, 0), length)
    return first, min(max(last, first), length)


def _radii(uniform: Tensor, params: DeadLeavesParams) -> Tensor:
    """Return radii of density r^-p by inverting the distribution function."""
    power = 1.0 - params.radius_power
    if abs(power) < 1e-6:
        return params.smallest * (params.largest / params.smallest) ** uniform  # density 1/r
    low, high = params.smallest**power, params.largest**power
    radii: Tensor = (low + (high - low) * uniform).pow(1.0 / power)
    return radii
