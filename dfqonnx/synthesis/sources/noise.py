"""Sources that ask the teacher nothing: dead leaves, and noise for inputs that are no images.

Dead leaves report their progress, because large images take a while; noise is drawn at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.synthesis.sources.dead_leaves import dead_leaves
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

NOISE_CHUNK = 256


@SOURCES.add("dead-leaves")
def paint(studio: SynthesisContext) -> Iterator[Tensor]:
    """Yield dead leaves, `plan.images` of them."""
    height, width, channels = studio.inputs.image_size
    studio.run.progress.start("synthesize", studio.plan.images)
    for images in dead_leaves(
        studio.plan.images,
        height=height,
        width=width,
        channels=channels,
        generator=studio.generator,
    ):
        studio.run.progress.advance(len(images))
        yield images


@SOURCES.add("noise")
def noise(studio: SynthesisContext) -> Iterator[Tensor]:
    """Yield Gaussian noise of mean 127.5 whose four standard deviations span the pixels."""
    size = studio.inputs.image_size
    for first in range(0, studio.plan.images, NOISE_CHUNK):
        count = min(NOISE_CHUNK, studio.plan.images - first)
        values = torch.randn(count, *size, generator=studio.generator)
        yield round_to_pixels(values * (127.5 / 4) + 127.5)


@SOURCES.add("gaussian")
def gaussian(studio: SynthesisContext) -> Iterator[Tensor]:
    """Yield x ~ N(0, 1) on normalized pixels, as papers do, cut to valid pixels."""
    height, width, channels = studio.inputs.image_size
    form = (
        (height, width, channels)
        if studio.inputs.preprocessing.layout == "NHWC"
        else (channels, height, width)
    )
    for first in range(0, studio.plan.images, NOISE_CHUNK):
        count = min(NOISE_CHUNK, studio.plan.images - first)
        yield studio.inputs.to_pixels(torch.randn(count, *form, generator=studio.generator))
