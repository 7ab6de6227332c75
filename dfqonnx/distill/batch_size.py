"""How many images at once: what memory holds, and fewer where a recipe leaves the schedule open.

A training step keeps about five floats of every value that passes an activation quantizer, a
forward pass without gradients one. With Adam the number of steps counts for more than the images in
each, so an open schedule takes small batches, the same on every machine. Where a run may take less
memory than usual (`MemoryShare`), a step's images pass in parts, and their gradients are added up:
the step is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.core.context import RunContext

TRAINING_BYTES = 20  # per value, measured: 16 on ResNet-20, 21 on MobileNetV1
FORWARD_BYTES = 4  # per value of a pass without gradients: 2.8 to 3.4 on MobileNetV1
CPU_MEMORY = 1_250_000_000  # leaves 0.75 of 2 GiB to the process itself
OPEN_BATCH = 64  # images of a step where the schedule is left open
OPEN_MEMORY = CPU_MEMORY // 2


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Images at once."""

    training: int  # of a training step
    part: int  # of them that pass at once
    calibration: int  # of a batch that initializes scales or measures agreement
    gptq: int  # that layers are reconstructed on


def choose_batch_sizes(config: DistillationConfig, values: int, context: RunContext) -> BatchSizes:
    """Return the images at once, of each of which `values` numbers pass activation quantizers."""
    usual = available_bytes(context)
    memory = int(usual * context.memory.work)
    calibration = fitting_batch(config.batch_size, values, memory=memory)
    asked = config.batch_size
    training = fitting_batch(asked, values, memory=usual)
    if config.steps is None:
        asked = min(config.batch_size, OPEN_BATCH)
        training = fitting_batch(asked, values, memory=min(usual, OPEN_MEMORY))
    part = min(training, calibration)
    gptq = fitting_batch(2 * config.batch_size, values, memory=memory, each=FORWARD_BYTES)
    if training < asked:
        context.progress.note(
            f"A training step takes {training} instead of {asked} images, to fit into memory."
        )
    return BatchSizes(training=training, part=part, calibration=calibration, gptq=gptq)


def available_bytes(context: RunContext) -> int:
    """Return the memory for images: half of what is free on a GPU, else `CPU_MEMORY`."""
    return torch.cuda.mem_get_info()[0] // 2 if context.device == "cuda" else CPU_MEMORY


def fitting_batch(
    batch: int, values: int, *, memory: int = CPU_MEMORY, each: int = TRAINING_BYTES
) -> int:
    """Return the largest power-of-two fraction of `batch` that fits into `memory` bytes.

    `values` are those per image that pass activation quantizers; one of them takes `each` bytes.
    """
    while batch > 1 and batch * values * each > memory:
        batch = (batch + 1) // 2
    return batch
