"""The synthetic images of one training: kept as bytes, split once, drawn without repetition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from dfqonnx.errors import UsageError
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.synth.pixels import to_tensor


class Pool:
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
        inputs: InputSpec,
        *,
        holdout: int,
        seed: int,
        device: str,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        if images.ndim != 4 or images.dtype != np.uint8 or len(images) < 2:
            raise UsageError(
                f"images to distill on: {images.dtype} {images.shape}; expected at least two"
                " uint8 images (N, H, W, C)"
            )
        order = np.random.default_rng(seed).permutation(len(images))
        kept = min(holdout, len(images) // 8)
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        self.held_at: tuple[int, ...] = tuple(order[:kept].tolist())
        self.held = pixels[torch.from_numpy(order[:kept])]
        self.train = pixels[torch.from_numpy(order[kept:])]
        self._inputs, self._shape = inputs, shape
        self.movable = shape is None or len(shape) == 3

    def tensor(self, pixels: Tensor) -> Tensor:
        """Return what the model reads for uint8 images (N, H, W, C)."""
        return to_tensor(pixels, self._inputs, shape=self._shape)

    def draw(self, batch: int, generator: Generator) -> Iterator[Tensor]:
        """Yield uint8 batches forever; every image once before any comes again."""
        left = torch.empty(0, dtype=torch.long)
        while True:
            while len(left) < batch:
                left = torch.cat([left, torch.randperm(len(self.train), generator=generator)])
            chosen, left = left[:batch], left[batch:]
            yield self.train[chosen.to(self.train.device)]

    def batches(self, pixels: Tensor, batch: int) -> Iterator[Tensor]:
        """Yield model inputs of `pixels` in order."""
        for part in torch.split(pixels, batch):
            yield self.tensor(part)
