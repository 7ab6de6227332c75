"""How many images at once: what memory holds, and fewer where a recipe leaves the schedule open.

An image moves `numbers` values through activation quantizers; a training step keeps about five
floats of each, a pass without gradients one. With Adam the number of steps counts for more than the
images in each, so an open schedule takes small batches, the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dfqonnx.config.distillation import DistillationConfig

LEAST_BATCH = 1
BYTES = 20  # of training, measured per number: 16 on ResNet-20, 21 on MobileNetV1
LOOKED = 4  # of a pass without gradients: 2.8 to 3.4 on MobileNetV1
MEMORY = 1_250_000_000  # leaves 0.75 of 2 GiB to the process itself
OPEN_BATCH = 64
OPEN_MEMORY = MEMORY // 2


@dataclass(frozen=True)
class BatchSizes:
    """Images at once.

    Attributes:
        step: of a training step.
        fewer: whether `step` is less than asked for, for memory's sake.
        measured: of a batch that sets activation steps, or is measured on.
        reconstructed: that layers are reconstructed on.
    """

    step: int
    fewer: bool
    measured: int
    reconstructed: int


def choose_batch_sizes(spec: DistillationConfig, numbers: int, device: torch.device) -> BatchSizes:
    """Return how many images a student is prepared and trained on at once.

    Args:
        spec: the recipe.
        numbers: per image that pass activation quantizers.
        device: where it trains.
    """
    memory = room(device)
    wide = fitting_batch(spec.batch_size, numbers, memory=memory)
    if spec.steps is None:
        asked = min(spec.batch_size, OPEN_BATCH)
        step = fitting_batch(asked, numbers, memory=min(memory, OPEN_MEMORY))
    else:
        asked, step = spec.batch_size, wide
    looked = fitting_batch(2 * spec.batch_size, numbers, memory=memory, each=LOOKED)
    return BatchSizes(step, step < asked, wide, looked)


def room(device: torch.device) -> int:
    """Return the bytes that images at once may take: half of a GPU's free ones, else `MEMORY`."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else MEMORY


def fitting_batch(batch: int, numbers: int, *, memory: int = MEMORY, each: int = BYTES) -> int:
    """Return the largest power-of-two fraction of `batch` that fits into memory.

    Args:
        batch: images wanted at once.
        numbers: numbers per image that pass activation quantizers.
        memory: bytes that they may take.
        each: bytes that a number takes: `BYTES` in training, `LOOKED` without gradients.
    """
    while batch > LEAST_BATCH and batch * numbers * each > memory:
        batch = (batch + 1) // 2
    return batch
