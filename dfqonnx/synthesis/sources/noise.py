"""Samples for inputs that are no images: structured fields, and noise; the papers' N(0, 1)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

CHUNK = 256


@SOURCES.add("fields")
def sample_fields(context: SynthesisContext) -> Iterator[Tensor]:
    """Yield structured fields, a quarter of them noise, see `data/structured_fields`."""
    rng = np.random.default_rng(context.run.seed)
    for pixels in structured_fields(context.plan.images, context.inputs.image_size, rng):
        yield torch.from_numpy(pixels)


@SOURCES.add("noise")
def sample_noise(context: SynthesisContext) -> Iterator[Tensor]:
    """Yield Gaussian noise of mean 127.5 whose four standard deviations span the pixels."""
    for values in _sample_normal(context, context.inputs.image_size):
        yield round_to_pixels(values * (127.5 / 4) + 127.5)


@SOURCES.add("gaussian")
def sample_gaussian(context: SynthesisContext) -> Iterator[Tensor]:
    """Yield x ~ N(0, 1) on normalized pixels, as papers do, cut to valid pixels."""
    height, width, channels = context.inputs.image_size
    nhwc = context.inputs.preprocessing.layout == "NHWC"
    shape = (height, width, channels) if nhwc else (channels, height, width)
    for values in _sample_normal(context, shape):
        yield context.inputs.to_pixels(values)


def _sample_normal(context: SynthesisContext, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield chunks of x ~ N(0, 1) of `shape`, as many as the plan says."""
    for first in range(0, context.plan.images, CHUNK):
        count = min(CHUNK, context.plan.images - first)
        yield torch.randn(count, *shape, generator=context.generator)
