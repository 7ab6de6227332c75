"""From a teacher to images: choose a source, plan the work, make the images, measure them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import dfqonnx.synthesis.generators  # noqa: F401  (registers the architectures)
import dfqonnx.synthesis.losses  # noqa: F401  (registers the losses)
import dfqonnx.synthesis.sources.generator  # noqa: F401  (registers its source)
import dfqonnx.synthesis.sources.noise  # noqa: F401  (registers its sources)
import dfqonnx.synthesis.sources.pixel_optimization  # noqa: F401  (registers its source)
from dfqonnx.config.synthesis import AUTO, PAINTING, SynthesisConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.context import MemoryShare, RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.synthesis.budget import (
    FEWEST,
    IMAGES,
    SynthesisPlan,
    TeacherCost,
    default_work,
    max_batch_size,
    measure_cost,
    measure_optimization_rate,
    plan_synthesis,
)
from dfqonnx.synthesis.divergence import measure_divergence
from dfqonnx.synthesis.generators.training import OnlineGenerators
from dfqonnx.synthesis.rank_shares import (
    check_source,
    join_images,
    share_context,
    share_plan,
)
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves
from dfqonnx.synthesis.sources.procedural import yield_procedural
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

SAMPLES, PAINTED, PASSES = 4, 2.0, 1.0  # a painted image costs so much, text beside it included
PAINTING_SHARE = 0.4  # of the time for images, where painting takes so much
PROCEDURAL, FROM_TEACHER = 0, 1  # kinds of images: drawn without the teacher, and with it
OWN = 2  # the kind of the user's own images, which are never among those held out
MEASURED = 1024  # images whose divergence from the training data stands for all


@dataclass(frozen=True, kw_only=True)
class SyntheticImages:
    """Synthetic images."""

    pixels: NDArray[np.uint8]  # (N, H, W, C), in random order
    source: str
    reason: str  # why that source; empty where the recipe named it
    plan: SynthesisPlan
    seconds: float  # wall clock
    kinds: NDArray[np.int64]  # (N,), see PROCEDURAL; training draws evenly from each
    generators: OnlineGenerators | None = None  # None where the source has none
    divergence: float | None = None  # nats, mean over layers; None without statistics
    reverse_divergence: float | None = None  # the same, of the training data from the images
    own: int = 0  # images of the user behind the synthetic ones

    @property
    def synthetic(self) -> NDArray[np.uint8]:
        """The images that are synthetic."""
        return self.pixels[: len(self.pixels) - self.own]

    def joined_by(self, own: NDArray[np.uint8]) -> Self:
        """Return the images with the user's own (N, H, W, C) behind them, a kind of their own."""
        kinds = np.full(len(own), OWN, np.int64)
        return replace(
            self,
            pixels=np.concatenate([self.pixels, own]),
            kinds=np.concatenate([self.kinds, kinds]),
            own=len(own),
        )


def synthesize(
    teacher: Program,
    statistics: Mapping[str, ChannelStatistics],
    *,
    inputs: InputFormat,
    config: SynthesisConfig,
    context: RunContext,
    opponents: Sequence[Callable[[Tensor], Tensor]] = (),
    most_work: float | None = None,
) -> SyntheticImages:
    """Make images for a teacher, within the seconds that `context` leaves.

    `opponents` are fixed networks from model inputs to logits, for recipes whose generator trains
    against a student, where no student is trained. `most_work` bounds the work relative to the
    default (`SynthesisConfig.budget_scale`), whatever there is time for.

    Raises:
        UsageError: unknown source.
    """
    started = time.perf_counter()
    shape = inputs.shape
    cost = measure_cost(teacher, shape)
    name, reason, plan = _choose_work(
        teacher, cost, inputs, config, most_work=most_work, context=context
    )
    check_source(name, context.ranks)
    own, own_plan = share_context(context), share_plan(plan, context.ranks)
    source_context = SynthesisContext(
        teacher=teacher,
        statistics=statistics,
        inputs=inputs,
        config=config,
        plan=own_plan,
        generator=torch.Generator().manual_seed(own.seed),
        run=own,
        opponents=tuple(opponents),
    )
    drawn, own_guided, generators = _draw(name, source_context)
    drawn, guided = join_images(drawn, own_guided, context.ranks)
    order = torch.randperm(len(drawn), generator=source_context.generator)
    order = context.ranks.agree(order)
    seconds = time.perf_counter() - started
    reason = reason if generators is None else generators.about
    if guided:
        how = "optimized through the teacher" if plan.optimized else f"from {reason or name}"
        reason = f"{guided:,} {how}, {len(drawn) - guided:,} procedural"
    pixels, batch = drawn[order], min(64, max_batch_size(cost, shape, context.memory.work))
    divergence, reverse = _divergence(pixels, source_context, batch=batch)
    return SyntheticImages(
        pixels=pixels.numpy(),
        source=name,
        reason=reason,
        plan=plan,
        seconds=seconds,
        kinds=torch.where(order < guided, FROM_TEACHER, PROCEDURAL).numpy(),
        generators=generators,
        divergence=divergence,
        reverse_divergence=reverse,
    )


def _draw(name: str, context: SynthesisContext) -> tuple[Tensor, int, OnlineGenerators | None]:
    """Return all images (N, H, W, C), those of the source first, and its generators, if any.

    The number in between is how many are from the source where others are procedural, else 0.
    """
    plan, paints = context.plan, context.inputs.is_image and name not in PAINTING
    painted = round(context.config.painted_fraction * plan.images) if paints else 0
    made = SOURCES[name](_with_images(context, plan.images - painted))
    drawn = torch.cat([*made, *yield_procedural(_with_images(context, painted))])
    guided = plan.optimized or (len(drawn) - painted if painted else 0)
    return drawn, guided, made if isinstance(made, OnlineGenerators) else None


def _with_images(context: SynthesisContext, images: int) -> SynthesisContext:
    return replace(context, plan=replace(context.plan, images=images))


def _choose_work(
    teacher: Program,
    cost: TeacherCost,
    inputs: InputFormat,
    config: SynthesisConfig,
    *,
    most_work: float | None,
    context: RunContext,
) -> tuple[str, str, SynthesisPlan]:
    """Return the source's name, why where the recipe leaves it open, and how much to make."""
    shape, scale, most = inputs.shape, config.budget_scale, None
    if context.budget_seconds is not None:
        precision = config.pixels.precision
        measured = measure_optimization_rate(teacher, shape, context, precision=precision)
        rate = context.ranks.agree(measured)
        most, seconds = context.ranks.agree(
            _leave_time_to_optimize(inputs, context.budget_seconds, 1 / rate)
        )
        scale = seconds * rate * 2.0 * cost.work / default_work(shape)
    scale = scale if most_work is None else min(scale, most_work)
    name, reason, plan = _decide(config, cost, inputs, scale=scale, memory=context.memory)
    plan = plan if most is None else plan.at_most(most)
    return name, reason, plan


def _decide(
    config: SynthesisConfig,
    cost: TeacherCost,
    inputs: InputFormat,
    *,
    scale: float,
    memory: MemoryShare,
) -> tuple[str, str, SynthesisPlan]:
    """Return the source's name, why where the recipe leaves it open, and how much to make."""
    name, reason, shape = config.source, "", inputs.shape
    if name == AUTO and inputs.is_image:
        name, reason = "optimized", "images optimized through the teacher"
    elif name == AUTO:
        form = "x".join(map(str, shape)) or "scalar"
        name = "fields"
        reason = f"structured fields, because the model reads {form} values and no image"
    plan = plan_synthesis(config, cost, shape, scale=scale, memory=memory)
    if name == "optimized" and not plan.optimized and config.dead_leaves_fraction < 1.0:
        name = "procedural"
        reason = "procedural, because the network is too large to optimize images through it"
    return name, reason, plan if name == "optimized" else replace(plan, optimized=0)


def _leave_time_to_optimize(inputs: InputFormat, budget: float, step: float) -> tuple[int, float]:
    """Return how many images may be painted within a budget, and the seconds that are left.

    `step` are the seconds of one image's optimization step. Painted images also pass the network
    when their kind is chosen and when they are measured.
    """
    started = time.perf_counter()
    if inputs.is_image:
        sample_dead_leaves(SAMPLES, inputs.image_size, torch.Generator().manual_seed(0))
    each = PAINTED * (time.perf_counter() - started) / SAMPLES + PASSES * step
    most = max(2 * FEWEST, int(PAINTING_SHARE * budget / each))
    return most, max(budget * (1 - PAINTING_SHARE), budget - IMAGES * each)


def _divergence(
    pixels: Tensor, context: SynthesisContext, *, batch: int
) -> tuple[float | None, float | None]:
    """Return how far images and training data are from each other, by the first thousand."""
    if not context.statistics:
        return None, None
    parts = torch.split(pixels[:MEASURED], batch)
    batches = (context.inputs.to_tensor(part) for part in parts)
    found = measure_divergence(
        context.teacher,
        context.statistics,
        batches,
        context=context.run,
        inputs=context.inputs,
    )
    return (found.divergence, found.reverse) if found.layers else (None, None)
