"""How many images and steps a model can afford: decided from its cost, the same on every machine.

A step of pixel optimization costs two passes: forward, and backward to the pixels. A pass costs its
multiply-adds and, in small networks mostly, the traffic of its activations: one value counts as
`TRAFFIC` multiply-adds. Measured on one CPU core: 650 images per second for ResNet-20 at 32x32 and
112 for MobileNetV1 0.25 at 224x224, with the same multiply-adds and six times the values.

The work of all steps is held near `WORK`, and a batch's activations near `BATCH_BYTES`; both within
bounds, so that tiny models get enough variety and huge ones still get something. Of large images
there is room for few (`POOL_BYTES`), which training repeats often: more of them are optimized, with
more work. MobileNetV1 0.25 at w4a8: 680 optimized images instead of 340 take a tenth off its
divergence on other synthetic images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Self

import torch

from dfqonnx.config.synthesis import AUTO, Precision, SynthesisConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.convert.reduced_precision import PROBE_IMAGES, Bfloat16Module, reduce_precision
from dfqonnx.core.context import MemoryShare, RunContext
from dfqonnx.graph.op_traits import Trait, has_trait

WORK = 5.1e12  # multiply-adds of all optimization steps; see `default_work` for large images
MORE = 2.0  # the most that WORK and the share of optimized images are multiplied by
TRAFFIC = 150  # multiply-adds that take as long as one activation
BATCH_BYTES = 400e6  # activations that a step keeps for its backward pass
POOL_BYTES = 256e6  # pixels of all images together
PASS = 6e11  # multiply-adds of one forward pass over all images
IMAGES, LEAST = 5120, 128  # images by default, and where time is short
WIDEST = 4  # times the images, with a long budget
FEWEST = 16  # images, however large the network
FIRST, LATER = 60, 30  # steps where the work allows them
LEAST_STEPS = 8  # of the first batch; below, nothing is optimized
ALL_MEMORY = MemoryShare()
SHARE = 0.6  # of an optimization step that is spent in the teacher's two passes


@dataclass(frozen=True)
class TeacherCost:
    """What one image costs."""

    multiply_adds: int  # of one forward pass
    activations: int  # values that layers with weights compute

    @property
    def work(self) -> int:
        """The multiply-adds that take as long as one forward pass."""
        return max(1, self.multiply_adds + TRAFFIC * self.activations)


@dataclass(frozen=True, kw_only=True)
class SynthesisPlan:
    """The counts for one run."""

    images: int  # in all
    optimized: int  # of them, through the teacher
    batch: int  # images that are optimized together
    first_batch_steps: int
    batch_steps: int  # of each later batch

    def at_most(self, images: int) -> Self:
        """Return a plan of at most so many images, of which as large a share is optimized."""
        if images >= self.images:
            return self
        optimized = self.optimized * images // self.images
        return replace(self, images=images, optimized=optimized, batch=min(self.batch, images))

    @property
    def steps(self) -> int:
        """The number of optimization steps in all."""
        batches = -(-self.optimized // self.batch)
        return self.first_batch_steps + self.batch_steps * (batches - 1) if batches else 0


@torch.no_grad()
def measure_cost(teacher: Program, shape: tuple[int, ...]) -> TeacherCost:
    """Return what one image through `teacher` costs, by running a blank one."""
    layers = {
        str(step.outputs[0]): step.inputs[1]
        for step in teacher.steps
        if has_trait(step.op, Trait.WEIGHTED) and len(step.inputs) > 1
    }
    net = ProgramModule(teacher, taps=tuple(layers))
    _, values = net(torch.zeros(1, *shape))
    work = 0
    for name, weight in layers.items():
        kernel = teacher.tensors.get(weight or "")
        per_value = 1 if kernel is None else max(1, kernel.numel() // values[name].shape[1])
        work += values[name].numel() * per_value
    return TeacherCost(work, sum(value.numel() for value in values.values()))


def measure_optimization_rate(
    teacher: Program,
    shape: tuple[int, ...],
    context: RunContext,
    *,
    precision: Precision,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return how many images a second take one optimization step on this machine."""
    exact = ProgramModule(teacher, channels_last=True).to(context.device)
    net: ProgramModule | Bfloat16Module = exact
    if precision == AUTO:
        sample = torch.rand(PROBE_IMAGES, *shape, generator=torch.Generator().manual_seed(0))
        net = reduce_precision(exact, sample.to(context.device))
    batch, seconds = 4, 0.0
    while seconds < 0.3 and batch < 256:
        batch *= 2
        images = torch.zeros(batch, *shape, device=context.device, requires_grad=True)
        started = clock()
        torch.autograd.grad(net(images)[0].sum(), images)[0].sum().item()  # waits for the device
        seconds = clock() - started
    return SHARE * batch / seconds


def large_image_factor(shape: tuple[int, ...]) -> float:
    """Return by how much the share of optimized images grows where there is room for few."""
    return min(MORE, max(1.0, IMAGES * prod(shape) / POOL_BYTES))


def default_work(shape: tuple[int, ...]) -> float:
    """Return the multiply-adds of all optimization steps together, by default."""
    return WORK * large_image_factor(shape)


def max_batch_size(cost: TeacherCost, shape: tuple[int, ...], share: float = 1.0) -> int:
    """Return how many images of `shape` memory holds in one optimization step.

    `share` is that of the usual memory, see `MemoryShare.work`.
    """
    bytes_kept = 12 * max(1, cost.activations) + 24 * prod(shape)
    return max(8 if share == 1.0 else 1, int(share * BATCH_BYTES / bytes_kept))


def plan_synthesis(
    config: SynthesisConfig,
    cost: TeacherCost,
    shape: tuple[int, ...],
    *,
    scale: float = 1.0,
    memory: MemoryShare = ALL_MEMORY,
) -> SynthesisPlan:
    """Return the counts for one run; the recipe's numbers win over the model's cost.

    `shape` is without the batch axis, `scale` the work relative to the default.
    """
    pixels = config.pixels
    free = pixels.first_batch_steps is None and pixels.batch_steps is None
    first = FIRST if pixels.first_batch_steps is None else pixels.first_batch_steps
    later = LATER if pixels.batch_steps is None else pixels.batch_steps
    batch = min(config.batch_size, max_batch_size(cost, shape, memory.work))
    affordable = scale * default_work(shape) / (2.0 * cost.work)  # images times steps
    images = config.images or _image_count(shape, scale, cost, memory.images)
    share = 1.0 - config.dead_leaves_fraction
    optimized = round(
        images * (share if config.images else min(1.0, share * large_image_factor(shape)))
    )
    if config.images is None and free:
        optimized = min(optimized, max(batch, int(affordable / LATER)))
        optimized = optimized if affordable >= FEWEST * LEAST_STEPS else 0
    batch = max(1, min(batch, optimized))
    if free and optimized:
        batches = -(-optimized // batch)
        fit = min(1.0, affordable / (batch * (FIRST + LATER * (batches - 1))))
        first, later = max(LEAST_STEPS, round(FIRST * fit)), max(4, round(LATER * fit))
    return SynthesisPlan(
        images=images,
        optimized=optimized,
        batch=batch,
        first_batch_steps=first,
        batch_steps=later,
    )


def pixel_bytes(config: SynthesisConfig, shape: tuple[int, ...]) -> int:
    """Return the most bytes that the images of a run take, before they are packed."""
    images = config.images or max(LEAST, min(IMAGES * WIDEST, POOL_BYTES / prod(shape)))
    return int(images) * prod(shape)


def _image_count(shape: tuple[int, ...], scale: float, cost: TeacherCost, memory: float) -> int:
    """Return how many images there are room and time for, in a share of the usual memory."""
    room = min(IMAGES * min(WIDEST, max(1.0, scale)), POOL_BYTES / prod(shape))
    affordable = max(FEWEST, int(PASS * scale / cost.work))
    found = min(affordable, max(LEAST, int(room * min(1.0, scale))))
    return max(min(found, FEWEST), int(memory * found))
