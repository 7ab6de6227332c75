"""The synthetic images of one training: kept as bytes, split once, drawn without repetition.

Batches for a student: from a pool of images, or anew from generators.

Both are flipped, shifted and mixed as the recipe says. Mixed images have no class of their own.

Seeded augmentation on the training device.

Flips and shifts move pixels: one gather on uint8 images (N, H, W, C), reflecting at the border.
Mixup blends model inputs: x_n <- l_n x_n + (1 - l_n) x_m, m a random partner, l uniform in 0..1.
The teacher labels what comes out, so no label has to be mixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.generators.training import OnlineGenerators


class ImagePool:
    """Images to train on and images held out.

    Attributes:
        train: (N, H, W, C) uint8.
        held: (M, H, W, C) uint8, never trained on.
        held_at: their places among the images given.
        movable: whether the model reads images, so that flips and shifts make sense.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        inputs: InputFormat,
        *,
        holdout: int,
        context: RunContext,
        kinds: NDArray[np.int64] | None = None,
    ) -> None:
        if images.ndim != 4 or images.dtype != np.uint8 or len(images) < 2:
            raise UsageError(
                f"images to distill on: {images.dtype} {images.shape}; expected at least two"
                " uint8 images (N, H, W, C)"
            )
        order = np.random.default_rng(context.seed).permutation(len(images))
        parts = _by_kind(order, kinds)
        kept = [min(holdout // len(parts), len(part) // 8) for part in parts]
        held = _alternate([part[:k] for part, k in zip(parts, kept, strict=True)])
        rest = [part[k:] for part, k in zip(parts, kept, strict=True)]
        train = _alternate(rest)
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(context.device)
        self.held_at: tuple[int, ...] = tuple(held.tolist())
        self.held = pixels[torch.from_numpy(held)]
        self.train = pixels[torch.from_numpy(train)]
        self._members = [torch.from_numpy(np.flatnonzero(np.isin(train, part))) for part in rest]
        self._inputs = inputs
        self.movable = inputs.is_image

    def tensor(self, pixels: Tensor) -> Tensor:
        """Return what the model reads for uint8 images (N, H, W, C)."""
        return self._inputs.to_tensor(pixels)

    def draw(self, batch: int, generator: Generator) -> Iterator[Tensor]:
        """Yield uint8 batches forever, kinds in equal shares.

        Of a kind every image comes once before any comes again.
        """
        count = len(self._members)
        sizes = [batch // count + (i < batch % count) for i in range(count)]
        left = [torch.empty(0, dtype=torch.long) for _ in self._members]
        while True:
            chosen = []
            for i, (members, size) in enumerate(zip(self._members, sizes, strict=True)):
                while len(left[i]) < size:
                    order = torch.randperm(len(members), generator=generator)
                    left[i] = torch.cat([left[i], members[order]])
                chosen.append(left[i][:size])
                left[i] = left[i][size:]
            yield self.train[torch.cat(chosen).to(self.train.device)]

    def batches(self, pixels: Tensor, batch: int) -> Iterator[Tensor]:
        """Yield model inputs of `pixels` in order."""
        for part in torch.split(pixels, batch):
            yield self.tensor(part)


def _by_kind(order: NDArray[np.int64], kinds: NDArray[np.int64] | None) -> list[NDArray[np.int64]]:
    """Split an order by kind; a kind with too few images for a share of its own joins the rest."""
    if kinds is None:
        return [order]
    parts = [order[kinds[order] == kind] for kind in np.unique(kinds)]
    return parts if min(map(len, parts)) >= 16 else [order]


def _alternate(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join parts one from each in turn; what is left of the longer ones follows."""
    least = min(map(len, parts))
    turns = np.stack([part[:least] for part in parts], 1).reshape(-1)
    return np.concatenate([turns, *(part[least:] for part in parts)])


def move(images: Tensor, *, flip: bool, shift: float, generator: Generator) -> Tensor:
    """Return images flipped left to right with probability 1/2 and shifted.

    Args:
        images: (N, H, W, C), any dtype.
        flip: whether flips occur.
        shift: largest shift as a fraction of the side.
        generator: CPU randomness.
    """
    n, height, width = images.shape[:3]
    rows = _indices(n, height, round(shift * height), generator)  # (N, H)
    columns = _indices(n, width, round(shift * width), generator)  # (N, W)
    if flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    first = torch.arange(n, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    return images[first, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)


def mixup(inputs: Tensor, *, fraction: float, generator: Generator) -> Tensor:
    """Return inputs of which `fraction` are blended with another one.

    Args:
        inputs: (N, ...), float.
        fraction: share of blended ones.
        generator: CPU randomness.
    """
    n = inputs.shape[0]
    if not fraction or n < 2:
        return inputs
    weight = torch.rand(n, generator=generator)
    weight = torch.where(torch.rand(n, generator=generator) < fraction, weight, 1.0)
    partner = torch.randperm(n, generator=generator).to(inputs.device)
    weight = weight.to(inputs.device).view(-1, *[1] * (inputs.dim() - 1))
    return torch.lerp(inputs[partner], inputs, weight)


def _indices(n: int, size: int, most: int, generator: Generator) -> Tensor:
    """Return (n, size) source positions, shifted by up to `most`, reflected at the border."""
    offset = torch.randint(-most, most + 1, (n, 1), generator=generator)
    position = (torch.arange(size) + offset).abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)


@dataclass(frozen=True)
class Batch:
    """What a student sees in one step.

    Attributes:
        x: model inputs, detached.
        labels: (N,) the classes that the images were made for; None where that is not known.
    """

    x: Tensor
    labels: Tensor | None = None


def feed(
    pool: ImagePool, live: OnlineGenerators | None, spec: DistillationConfig, generator: Generator
) -> Iterator[Batch]:
    """Yield batches forever.

    Args:
        pool: images drawn once.
        live: generators to draw from instead; None takes the pool.
        spec: batch and augmentation.
        generator: CPU randomness.
    """
    if live is None:
        for pixels in pool.draw(spec.batch_size, generator):
            moved = pixels
            if pool.movable:
                moved = move(pixels, flip=spec.flip, shift=spec.shift, generator=generator)
            yield Batch(mixup(pool.tensor(moved), fraction=spec.mixup, generator=generator))
    while live is not None:
        drawn = live.draw(spec.batch_size, generator)
        x = drawn.x if live.inputs.preprocessing.layout == "NHWC" else drawn.x.permute(0, 2, 3, 1)
        x = move(x, flip=spec.flip, shift=spec.shift, generator=generator)  # (N, H, W, C)
        x = x if live.inputs.preprocessing.layout == "NHWC" else x.permute(0, 3, 1, 2)
        mixed = mixup(x, fraction=spec.mixup, generator=generator)
        yield Batch(mixed, None if spec.mixup else drawn.labels)
