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
        kinds: NDArray[np.int64] | None = None,
    ) -> None:
        if images.ndim != 4 or images.dtype != np.uint8 or len(images) < 2:
            raise UsageError(
                f"images to distill on: {images.dtype} {images.shape}; expected at least two"
                " uint8 images (N, H, W, C)"
            )
        order = np.random.default_rng(seed).permutation(len(images))
        parts = _by_kind(order, kinds)
        kept = [min(holdout // len(parts), len(part) // 8) for part in parts]
        held = _alternate([part[:k] for part, k in zip(parts, kept, strict=True)])
        rest = [part[k:] for part, k in zip(parts, kept, strict=True)]
        train = _alternate(rest)
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        self.held_at: tuple[int, ...] = tuple(held.tolist())
        self.held = pixels[torch.from_numpy(held)]
        self.train = pixels[torch.from_numpy(train)]
        self._members = [torch.from_numpy(np.flatnonzero(np.isin(train, part))) for part in rest]
        self._inputs, self._shape = inputs, shape
        self.movable = shape is None or len(shape) == 3

    def tensor(self, pixels: Tensor) -> Tensor:
        """Return what the model reads for uint8 images (N, H, W, C)."""
        return to_tensor(pixels, self._inputs, shape=self._shape)

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
