"""Procedural images for a comparison where there are no others: dead leaves in numpy.

An image is a stack of opaque ellipses that hide each other, over a background whose amplitude
falls with frequency as in photographs (f^-1.5 here; edges of the leaves add the high frequencies):
    radius     density r^-2 between 0.12 and 0.8 of the image's side
    color     the image's mean, plus a luminance of standard deviation 0.25, plus a fifth of chroma
    texture    noise f^-1.5, weaker than the leaf's color, and different on every leaf
Occlusion gives natural images their edges and their heavy tails (Matheron's model; Lee, Mumford and
Huang 2001). A model that reads no image gets structured fields. They are enough to show parity and
rough agreement; training uses richer images (synthesis/sources/dead_leaves).
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.data.structured_fields import structured_fields

Floats = NDArray[np.float32]

IMAGES, FEWEST = 256, 32
VALUES = 2**23  # pixels of all images together, beyond FEWEST of them
LEAVES = 16
SMALLEST, LARGEST = 0.12, 0.8  # radii, in image sides
CONTRAST, CHROMA = 0.25, 0.2
CHUNK_VALUES = 2**20


def make_probe_images(
    shape: tuple[int, int, int], *, rng: Generator, count: int | None = None, photo: bool = True
) -> NDArray[np.uint8]:
    """Return images (N, H, W, C); `count` None takes `IMAGES`, or fewer where they are large.

    If not `photo`, they are structured fields, see `data/structured_fields`.
    """
    frame = int(np.prod(shape))
    count = max(FEWEST, min(IMAGES, VALUES // frame)) if count is None else count
    if not photo:
        return np.concatenate(list(structured_fields(count, shape, rng)))
    chunk = max(1, CHUNK_VALUES // frame)
    parts = [_paint(min(chunk, count - at), shape, rng) for at in range(0, count, chunk)]
    return np.concatenate(parts)


def sample_natural_noise(shape: tuple[int, ...], *, slope: float, rng: Generator) -> Floats:
    """Return noise (..., H, W) of amplitude f^-slope, mean 0 and variance 1 in each plane."""
    height, width = shape[-2:]
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(shape, np.float32))
    noise = np.fft.irfft2(spectrum * frequency**-slope, s=(height, width))
    spread = np.sqrt(np.square(noise).mean((-2, -1), keepdims=True))
    return np.asarray(noise / np.maximum(spread, 1e-12), np.float32)


def _paint(count: int, shape: tuple[int, int, int], rng: Generator) -> NDArray[np.uint8]:
    height, width, channels = shape
    side = max(height, width)
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / side
    columns = (np.arange(width, dtype=np.float32)[None] + 0.5) / side

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, (count, 1, 1)).astype(np.float32)

    def color(spread: float, chroma: float) -> Floats:
        tint = 0.0 if channels == 1 else chroma
        shared = rng.standard_normal((count, 1, 1, 1), np.float32)
        own = rng.standard_normal((count, channels, 1, 1), np.float32)
        return np.asarray(spread * (shared + tint * own), np.float32)

    noise = sample_natural_noise((count, 1, height, width), slope=1.5, rng=rng)  # (N, 1, H, W)
    mean = 0.47 + color(0.12, 0.5)
    image = mean + color(CONTRAST, CHROMA) + 0.6 * CONTRAST * noise  # (N, C, H, W)
    for _ in range(LEAVES):
        radius = 1 / (1 / SMALLEST - uniform(0, 1) * (1 / SMALLEST - 1 / LARGEST))  # (N, 1, 1)
        x = columns - uniform(-0.1, 1.1) * width / side
        y = rows - uniform(-0.1, 1.1) * height / side
        angle, aspect = uniform(0, np.pi), np.exp(0.4 * rng.standard_normal((count, 1, 1)))
        along = (x * np.cos(angle) + y * np.sin(angle)) / aspect  # (N, H, W)
        aside = (y * np.cos(angle) - x * np.sin(angle)) * aspect
        cover = (0.5 - (np.hypot(along, aside) - radius) * side).clip(0, 1)[:, None]
        shift = (int(rng.integers(height)), int(rng.integers(width)))
        texture = uniform(0, 0.2)[:, None] * np.roll(noise, shift, (2, 3))
        image += cover.astype(np.float32) * (mean + color(CONTRAST, CHROMA) + texture - image)
    pixels = round_to_pixels(image * 255)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))  # (N, H, W, C)
