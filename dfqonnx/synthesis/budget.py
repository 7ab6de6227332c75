"""How many images and steps a model can afford: decided from its size, the same on every machine.

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
from dataclasses import dataclass
from math import prod

import torch

from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.graph.op_traits import Trait, has_trait

WORK = 5.1e12  # of all optimization steps together, in multiply-adds; see `work` for large images
MORE = 2.0  # times that, and times the share of optimized images, at most
TRAFFIC = 150  # multiply-adds that take as long as one activation
BATCH_BYTES = 400e6  # activations that a step keeps for its backward pass
POOL_BYTES = 256e6  # pixels of all images together
PASS = 6e11  # multiply-adds of one forward pass over all images
IMAGES, LEAST = 5120, 128  # images by default, and where time is short
WIDEST = 4  # times the images, with a long budget
FEWEST = 16  # images, however large the network
FIRST, FOLLOWING = 60, 30  # steps where the work allows them
LEAST_STEPS = 8  # of the first batch; below, nothing is optimized
SHARE = 0.6  # of an optimization step that is spent in the teacher's two passes


@dataclass(frozen=True)
class Size:
    """What one image costs.

    Attributes:
        multiply_adds: of one forward pass.
        activations: values computed by layers with weights.
    """

    multiply_adds: int
    activations: int

    @property
    def work(self) -> int:
        """Multiply-adds that take as long as one forward pass."""
        return max(1, self.multiply_adds + TRAFFIC * self.activations)


@dataclass(frozen=True)
class Plan:
    """Counts for one run.

    Attributes:
        images: all of them.
        optimized: those that the teacher improves.
        batch: images optimized together.
        first: steps of the first batch.
        following: steps of each later batch.
    """

    images: int
    optimized: int
    batch: int
    first: int
    following: int

    @property
    def steps(self) -> int:
        """Optimization steps in all."""
        batches = -(-self.optimized // self.batch)
        return self.first + self.following * (batches - 1) if batches else 0


@torch.no_grad()
def measure(teacher: Program, shape: tuple[int, ...]) -> Size:
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
    return Size(work, sum(value.numel() for value in values.values()))


def optimization_rate(teacher: Program, shape: tuple[int, ...], device: torch.device) -> float:
    """Return how many images a second take one optimization step on this machine."""
    net = ProgramModule(teacher).to(device)
    batch, seconds = 4, 0.0
    while seconds < 0.3 and batch < 256:
        batch *= 2
        images = torch.zeros(batch, *shape, device=device, requires_grad=True)
        started = time.perf_counter()
        torch.autograd.grad(net(images)[0].sum(), images)[0].sum().item()  # waits for the device
        seconds = time.perf_counter() - started
    return SHARE * batch / seconds


def more(shape: tuple[int, ...]) -> float:
    """Return how many times the share of optimized images grows where there is room for few."""
    return min(MORE, max(1.0, IMAGES * prod(shape) / POOL_BYTES))


def work(shape: tuple[int, ...]) -> float:
    """Return the multiply-adds of all optimization steps together, by default."""
    return WORK * more(shape)


def fitting(size: Size, shape: tuple[int, ...]) -> int:
    """Return how many images of `shape` may be optimized together, for memory's sake."""
    bytes_kept = 12 * max(1, size.activations) + 24 * prod(shape)
    return max(8, int(BATCH_BYTES / bytes_kept))


def plan(spec: SynthesisConfig, size: Size, shape: tuple[int, ...], *, scale: float = 1.0) -> Plan:
    """Return the counts for one run.

    Args:
        spec: what the recipe asks for; its numbers win over the model's size.
        size: what one image costs.
        shape: of one input, without the batch axis.
        scale: work relative to the default, for runs with a budget.
    """
    pixels = spec.pixels
    free = pixels.first_batch_steps is None and pixels.batch_steps is None
    first = FIRST if pixels.first_batch_steps is None else pixels.first_batch_steps
    following = FOLLOWING if pixels.batch_steps is None else pixels.batch_steps
    batch = min(spec.batch_size, fitting(size, shape))
    affordable = scale * work(shape) / (2.0 * size.work)  # images times steps
    images = spec.images or _images(shape, scale, size)
    share = 1.0 - spec.dead_leaves_fraction
    optimized = round(images * (share if spec.images else min(1.0, share * more(shape))))
    if spec.images is None and free:
        optimized = min(optimized, max(batch, int(affordable / FOLLOWING)))
        optimized = optimized if affordable >= FEWEST * LEAST_STEPS else 0
    batch = max(1, min(batch, optimized))
    if free and optimized:
        batches = -(-optimized // batch)
        fit = min(1.0, affordable / (batch * (FIRST + FOLLOWING * (batches - 1))))
        first, following = max(LEAST_STEPS, round(FIRST * fit)), max(4, round(FOLLOWING * fit))
    return Plan(images, optimized, batch, first, following)


def pixel_bytes(spec: SynthesisConfig, shape: tuple[int, ...]) -> int:
    """Return the most bytes that the images of a run take, before they are packed."""
    images = spec.images or max(LEAST, min(IMAGES * WIDEST, POOL_BYTES / prod(shape)))
    return int(images) * prod(shape)


def _images(shape: tuple[int, ...], scale: float, size: Size) -> int:
    """Return how many images there are room and time for."""
    room = min(IMAGES * min(WIDEST, max(1.0, scale)), POOL_BYTES / prod(shape))
    affordable = max(FEWEST, int(PASS * scale / size.work))
    return min(affordable, max(LEAST, int(room * min(1.0, scale))))
