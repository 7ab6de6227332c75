"""The images of a training: kept as bytes, split once, drawn without repetition, augmented.

A student's batches come from the pool, or are drawn anew from generators; beside these a share may
be painted images of the pool, which no class was asked for. All are flipped and shifted by one
gather on (N, H, W, C), reflecting at the border, and then mixed on the model's inputs:

    mixup    x_n <- l_n x_n + (1 - l_n) x_m        m a random partner, l uniform in 0..1

The teacher labels what comes out, so no label has to be mixed; mixed images have no class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.generators.training import GeneratedBatch, OnlineGenerators
from dfqonnx.synthesis.synthesize import OWN, PROCEDURAL

SMALLEST_KIND = 16  # images; fewer get no share of their own in a batch


class ImagePool:
    """Images to train on, and images held out."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        inputs: InputFormat,
        *,
        holdout: int,
        context: RunContext,
        kinds: NDArray[np.int64] | None = None,
        unlike: NDArray[np.uint8] | None = None,
    ) -> None:
        if images.ndim != 4 or images.dtype != np.uint8 or len(images) < 2:
            raise UsageError(
                f"images to distill on: {images.dtype} {images.shape}; expected at least two"
                " uint8 images (N, H, W, C)"
            )
        order = np.random.default_rng(context.seed).permutation(len(images))
        is_own = np.zeros(len(images), bool) if kinds is None else kinds == OWN
        own = order[is_own[order]]
        parts = _split_by_kind(order[~is_own[order]], kinds)
        counts = [min(holdout // len(parts), len(part) // 8) for part in parts]
        held_out = _interleave([part[:k] for part, k in zip(parts, counts, strict=True)])
        rest = [part[k:] for part, k in zip(parts, counts, strict=True)]
        rest += [np.resize(own, max(len(own), SMALLEST_KIND))] if len(own) else []
        train = _interleave(rest)
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(context.device)
        self.held_out_indices: tuple[int, ...] = tuple(held_out.tolist())
        self.held_out = pixels[torch.from_numpy(held_out)]  # (M, H, W, C) uint8, never trained on
        self.train = pixels[torch.from_numpy(train)]  # (N, H, W, C) uint8
        fitted = train if unlike is None else train[~np.isin(train, own)]
        self.fitting = pixels[torch.from_numpy(fitted)]  # those of the run, for ranges and GPTQ
        others = images[:0] if unlike is None else unlike
        self.unlike = torch.from_numpy(others).to(context.device)  # of other kinds, to choose by
        self._members = [torch.from_numpy(np.flatnonzero(np.isin(train, part))) for part in rest]
        is_painted = np.zeros(len(train), bool) if kinds is None else kinds[train] == PROCEDURAL
        self._painted = torch.from_numpy(np.flatnonzero(is_painted))
        self.inputs = inputs
        self.holds_images = inputs.is_image  # so that flips and shifts make sense

    def tensor(self, pixels: Tensor) -> Tensor:
        """Return what the model reads for uint8 images (N, H, W, C)."""
        return self.inputs.to_tensor(pixels)

    def draw(self, batch_size: int, generator: Generator) -> PoolDraw:
        """Return uint8 batches without end, kinds in equal shares.

        Every image of a kind is drawn once before any is drawn again.
        """
        return PoolDraw(self.train, self._members, batch_size, generator)

    def draw_painted(self, count: int, generator: Generator) -> PoolDraw:
        """Return batches of `count` procedural images without end; empty ones without any."""
        return PoolDraw(self.train, [self._painted], count if len(self._painted) else 0, generator)

    def batches(self, pixels: Tensor, batch_size: int) -> Iterator[Tensor]:
        """Yield model inputs of `pixels` in order."""
        for part in torch.split(pixels, batch_size):
            yield self.tensor(part)

    def choosing_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield model inputs of the images held out and of those `unlike` them."""
        return self.batches(torch.cat([self.held_out, self.unlike]), batch_size)

    def held_out_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield model inputs of the images held out; nothing where there are none."""
        return self.batches(self.held_out, batch_size)


class PoolDraw:
    """Batches of a pool: `members` are the places of each kind among the images `train`."""

    def __init__(
        self, train: Tensor, members: Sequence[Tensor], batch_size: int, generator: Generator
    ) -> None:
        self._train, self._members, self._generator = train, members, generator
        count = len(members)
        self._sizes = [batch_size // count + (i < batch_size % count) for i in range(count)]
        self.left = [torch.empty(0, dtype=torch.long) for _ in members]  # drawn next, by kind

    def __iter__(self) -> Self:
        """Return the batches themselves."""
        return self

    def __next__(self) -> Tensor:
        """Return the next batch, uint8 (N, H, W, C)."""
        chosen = []
        for i, (members, size) in enumerate(zip(self._members, self._sizes, strict=True)):
            while len(self.left[i]) < size:
                order = torch.randperm(len(members), generator=self._generator)
                self.left[i] = torch.cat([self.left[i], members[order]])
            chosen.append(self.left[i][:size])
            self.left[i] = self.left[i][size:]
        return self._train[torch.cat(chosen).to(self._train.device)]

    def set_left(self, left: Sequence[Tensor]) -> None:
        """Set the places that are drawn next, by kind.

        Raises:
            ValueError: one is not in the pool.
        """
        count = len(self._train)
        if any(len(part) and not 0 <= int(part.min()) <= int(part.max()) < count for part in left):
            raise ValueError("a batch of images that the pool does not have")
        self.left = list(left)


def _split_by_kind(
    order: NDArray[np.int64], kinds: NDArray[np.int64] | None
) -> list[NDArray[np.int64]]:
    """Split an order by kind; all stays together where one kind has too few images."""
    if kinds is None:
        return [order]
    parts = [order[kinds[order] == kind] for kind in np.unique(kinds[order])]
    return parts if parts and min(map(len, parts)) >= SMALLEST_KIND else [order]


def _interleave(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join parts one from each in turn; what is left of the longer ones follows."""
    least = min(map(len, parts))
    turns = np.stack([part[:least] for part in parts], 1).reshape(-1)
    return np.concatenate([turns, *(part[least:] for part in parts)])


@dataclass(frozen=True)
class Batch:
    """What a student sees in one step."""

    x: Tensor  # model inputs, detached
    # (N,) classes that the images were made for, -1 where one is unknown; None where all are
    labels: Tensor | None = None


def flip_and_shift(images: Tensor, *, flip: bool, shift: float, generator: Generator) -> Tensor:
    """Return images (N, H, W, C), half of them mirrored, shifted by up to `shift` of their side."""
    n, height, width = images.shape[:3]
    rows = _shifted_indices(n, height, round(shift * height), generator)  # (N, H)
    columns = _shifted_indices(n, width, round(shift * width), generator)  # (N, W)
    if flip:
        flipped = torch.rand(n, generator=generator) < 0.5
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    first = torch.arange(n, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    return images[first, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)


def _shifted_indices(n: int, size: int, most: int, generator: Generator) -> Tensor:
    """Return (n, size) source positions, shifted by up to `most`, reflected at the border."""
    offset = torch.randint(-most, most + 1, (n, 1), generator=generator)
    position = (torch.arange(size) + offset).abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)


def mixup(inputs: Tensor, *, fraction: float, generator: Generator) -> Tensor:
    """Return inputs (N, ...) of which `fraction` are blended with another one."""
    n = inputs.shape[0]
    if not fraction or n < 2:
        return inputs
    weight = torch.rand(n, generator=generator)
    weight = torch.where(torch.rand(n, generator=generator) < fraction, weight, 1.0)
    partner = torch.randperm(n, generator=generator).to(inputs.device)
    weight = weight.to(inputs.device).view(-1, *[1] * (inputs.dim() - 1))
    return torch.lerp(inputs[partner], inputs, weight)


class TrainingBatches:
    """Augmented batches without end, drawn from `online`, or from the pool where that is None."""

    def __init__(
        self,
        pool: ImagePool,
        online: OnlineGenerators | None,
        config: DistillationConfig,
        generator: Generator,
    ) -> None:
        self._pool, self._online, self._config = pool, online, config
        self._random = generator
        self._pixels = pool.draw(config.batch_size, generator)
        fraction = 0.0 if online is None else online.painted_fraction
        self._painted = pool.draw_painted(round(fraction * config.batch_size), generator)
        self._nhwc = online is None or online.inputs.preprocessing.layout == "NHWC"

    def __iter__(self) -> Self:
        """Return the batches themselves."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch."""
        config, random = self._config, self._random
        if self._online is None:
            x, labels = next(self._pixels), None
        else:
            painted = next(self._painted)
            drawn = self._online.draw(config.batch_size - len(painted), random)
            x, labels = _add_painted(drawn, self._pool.tensor(painted))
            x = x if self._nhwc else x.permute(0, 2, 3, 1)
        if self._pool.holds_images:  # x is (N, H, W, C)
            x = flip_and_shift(x, flip=config.flip, shift=config.shift, generator=random)
        if self._online is None:
            x = self._pool.tensor(x)
        elif not self._nhwc:
            x = x.permute(0, 3, 1, 2)
        x = mixup(x, fraction=config.mixup, generator=random)
        return Batch(x, None if config.mixup else labels)

    def save_state(self) -> dict[str, Tensor]:
        """Return what decides the batches to come: the random generator, and the draw's rest."""
        left = {f"left{kind}": places.clone() for kind, places in enumerate(self._pixels.left)}
        painted = self._painted.left[0].clone()
        return {"random": self._random.get_state(), "painted": painted, **left}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was.

        Raises:
            ValueError: a place is not in the pool.
        """
        self._random.set_state(state["random"])
        self._painted.set_left([state["painted"]])
        self._pixels.set_left([state[f"left{kind}"] for kind in range(len(self._pixels.left))])


def _add_painted(drawn: GeneratedBatch, painted: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return model inputs, the painted ones last, and the classes of them all."""
    if not len(painted):
        return drawn.x, drawn.labels
    labels = drawn.labels
    if labels is not None:
        labels = torch.cat([labels, labels.new_full((len(painted),), -1)])
    return torch.cat([drawn.x, painted]), labels
