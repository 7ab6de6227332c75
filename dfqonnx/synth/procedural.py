"""Sources that ask the teacher nothing: dead leaves, patterns, and noise for what is no image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Generator, Tensor

from dfqonnx.synth.effort import Plan
from dfqonnx.synth.leaves import leaves
from dfqonnx.synth.patterns import patterns
from dfqonnx.synth.pixels import to_pixels
from dfqonnx.synth.source import SOURCES, Studio

NOISE_CHUNK = 256


class Painter(Protocol):
    """Yields chunks of `n` uint8 images (B, H, W, C) that no teacher had a hand in."""

    def __call__(
        self, n: int, *, height: int, width: int, channels: int, generator: Generator
    ) -> Iterator[Tensor]:
        """Paint them."""
        ...


def paint(painter: Painter, count: int, studio: Studio) -> Tensor:
    """Return `count` images of the studio's size, (count, H, W, C)."""
    height, width, channels = studio.size
    generator = studio.generator
    chunks = painter(count, height=height, width=width, channels=channels, generator=generator)
    return torch.cat([torch.empty(0, height, width, channels, dtype=torch.uint8), *chunks])


def shares(plan: Plan) -> tuple[int, int]:
    """Return how many of a plan's images stay dead leaves, and how many patterns."""
    rest = plan.images - plan.optimised
    return rest - rest // 2, rest // 2


def paintings(studio: Studio) -> tuple[Tensor, Tensor]:
    """Return the dead leaves and the patterns that stay as they are painted, (N, H, W, C) each."""
    first, second = shares(studio.plan)
    return paint(leaves, first, studio), paint(patterns, second, studio)


@SOURCES.add("leaves")
def paint_leaves(studio: Studio) -> Iterator[Tensor]:
    """Yield dead leaves, `plan.images` of them."""
    yield paint(leaves, studio.plan.images, studio)


@SOURCES.add("patterns")
def paint_patterns(studio: Studio) -> Iterator[Tensor]:
    """Yield patterns, `plan.images` of them."""
    yield paint(patterns, studio.plan.images, studio)


@SOURCES.add("painted")
def paint_both(studio: Studio) -> Iterator[Tensor]:
    """Yield dead leaves and patterns, half and half."""
    yield from paintings(studio)


@SOURCES.add("noise")
def noise(studio: Studio) -> Iterator[Tensor]:
    """Yield Gaussian noise of mean 127.5 whose four standard deviations span the pixels."""
    size = studio.size
    for first in range(0, studio.plan.images, NOISE_CHUNK):
        count = min(NOISE_CHUNK, studio.plan.images - first)
        values = torch.randn(count, *size, generator=studio.generator)
        yield (values * (127.5 / 4) + 127.5).round_().clamp_(0, 255).to(torch.uint8)


@SOURCES.add("gaussian")
def gaussian(studio: Studio) -> Iterator[Tensor]:
    """Yield x ~ N(0, 1) on normalised pixels, as papers do, cut to valid pixels."""
    height, width, channels = studio.size
    form = (
        (height, width, channels) if studio.inputs.layout == "NHWC" else (channels, height, width)
    )
    for first in range(0, studio.plan.images, NOISE_CHUNK):
        count = min(NOISE_CHUNK, studio.plan.images - first)
        yield to_pixels(torch.randn(count, *form, generator=studio.generator), studio.inputs)
