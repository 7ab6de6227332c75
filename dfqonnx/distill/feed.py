"""Batches for a student: from a pool of images, or anew from generators.

Both are flipped, shifted and mixed as the recipe says. Mixed images have no class of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Generator, Tensor

from dfqonnx.distill.augment import mixup, move
from dfqonnx.distill.pool import Pool
from dfqonnx.spec.distill import DistillSpec
from dfqonnx.synth.live import Live


@dataclass(frozen=True)
class Batch:
    """What a student sees in one step.

    Attributes:
        x: model inputs, detached.
        labels: (N,) the classes that the images were made for; None where that is not known.
    """

    x: Tensor
    labels: Tensor | None = None


def feed(pool: Pool, live: Live | None, spec: DistillSpec, generator: Generator) -> Iterator[Batch]:
    """Yield batches forever.

    Args:
        pool: images drawn once.
        live: generators to draw from instead; None takes the pool.
        spec: batch and augmentation.
        generator: CPU randomness.
    """
    if live is None:
        for pixels in pool.draw(spec.batch, generator):
            moved = pixels
            if pool.movable:
                moved = move(pixels, flip=spec.flip, shift=spec.shift, generator=generator)
            yield Batch(mixup(pool.tensor(moved), fraction=spec.mixup, generator=generator))
    while live is not None:
        drawn = live.draw(spec.batch, generator)
        x = drawn.x if live.layout == "NHWC" else drawn.x.permute(0, 2, 3, 1)
        x = move(x, flip=spec.flip, shift=spec.shift, generator=generator)  # (N, H, W, C)
        x = x if live.layout == "NHWC" else x.permute(0, 3, 1, 2)
        mixed = mixup(x, fraction=spec.mixup, generator=generator)
        yield Batch(mixed, None if spec.mixup else drawn.labels)
