"""The room's door: a teacher in, images out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import dfqonnx.synthesis.generators  # noqa: F401  (files them all)
import dfqonnx.synthesis.losses  # noqa: F401  (files them all)
import dfqonnx.synthesis.sources.generator  # noqa: F401  (files its source)
import dfqonnx.synthesis.sources.noise  # noqa: F401  (files its sources)
import dfqonnx.synthesis.sources.pixel_optimization  # noqa: F401  (files its source)
from dfqonnx.config.synthesis import AUTO, SynthesisConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.synthesis.budget import Plan, Size, fitting, measure, optimization_rate, plan, work
from dfqonnx.synthesis.divergence import measure_divergence
from dfqonnx.synthesis.generators.training import OnlineGenerators
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

MEASURED = 1024  # images that tell how far all are from the training data


@dataclass(frozen=True)
class SyntheticImages:
    """Synthetic images.

    Attributes:
        pixels: uint8 (N, H, W, C), in random order.
        source: name of the source that made them.
        reason: why that source; empty when the recipe named it.
        plan: how many images and steps.
        seconds: wall clock.
        kinds: int64 (N): 1 for images that the teacher improved, 0 for those as painted; training
            draws from both evenly, however many there are of each.
        live: the generators that made them, for more; None where there were none.
        divergence: from the training data, in nats, mean over layers; None without statistics.
    """

    pixels: NDArray[np.uint8]
    source: str
    reason: str
    plan: Plan
    seconds: float
    kinds: NDArray[np.int64]
    live: OnlineGenerators | None = None
    divergence: float | None = None


def synthesize(
    teacher: Program,
    statistics: Mapping[str, ChannelStatistics],
    *,
    inputs: InputFormat,
    spec: SynthesisConfig,
    context: RunContext,
    opponents: Sequence[Callable[[Tensor], Tensor]] = (),
) -> SyntheticImages:
    """Make images for a teacher.

    Args:
        teacher: the float network.
        statistics: what BatchNormalization knew, by value name; empty where it is gone.
        inputs: how pixels become the teacher's tensor.
        spec: the recipe.
        context: seed, device, progress, and the seconds that images may take.
        opponents: fixed networks, from model inputs to logits, for recipes whose generator plays
            against a student where none is trained.

    Raises:
        UsageError: unknown source.
    """
    started = time.perf_counter()
    shape = inputs.shape
    size = measure(teacher, shape)
    scale = spec.budget_scale
    if context.budget_seconds is not None:
        per_second = optimization_rate(teacher, shape, torch.device(context.device))
        scale = context.budget_seconds * per_second * 2.0 * size.work / work(shape)
    name, reason, chosen = _decided(spec, size, shape, scale)
    source = SOURCES[name]
    studio = SynthesisContext(
        teacher=teacher,
        statistics=statistics,
        inputs=inputs,
        spec=spec,
        plan=chosen,
        generator=torch.Generator().manual_seed(context.seed),
        run=context,
        opponents=tuple(opponents),
    )
    made = source(studio)
    drawn = torch.cat(list(made))
    order = torch.randperm(len(drawn), generator=studio.generator)
    seconds = time.perf_counter() - started
    if chosen.optimized:
        painted = len(drawn) - chosen.optimized
        reason = f"{chosen.optimized:,} optimized through the teacher, {painted:,} dead leaves"
    live = made if isinstance(made, OnlineGenerators) else None
    reason = live.about if live is not None else reason
    kinds, pixels = (order < chosen.optimized).long().numpy(), drawn[order]
    far = _divergence(pixels, studio, batch=min(64, fitting(size, shape)))
    return SyntheticImages(pixels.numpy(), name, reason, chosen, seconds, kinds, live, far)


def _decided(
    spec: SynthesisConfig, size: Size, shape: tuple[int, ...], scale: float
) -> tuple[str, str, Plan]:
    """Return the source's name, why, and how many images and steps."""
    name, reason = choose_source(spec, shape)
    chosen = plan(spec, size, shape, scale=scale)
    if name == "optimized" and not chosen.optimized and spec.dead_leaves_fraction < 1.0:
        name, reason = (
            "dead-leaves",
            "dead leaves, because the network is too large to optimize images through it",
        )
    return name, reason, chosen if name == "optimized" else replace(chosen, optimized=0)


def _divergence(pixels: Tensor, studio: SynthesisContext, *, batch: int) -> float | None:
    """Return how far images are from the training data, by the first thousand."""
    if not studio.statistics:
        return None
    parts = torch.split(pixels[:MEASURED], batch)
    batches = (studio.inputs.to_tensor(part) for part in parts)
    found = measure_divergence(studio.teacher, studio.statistics, batches, device=studio.device)
    return found.divergence if found.layers else None


def choose_source(spec: SynthesisConfig, shape: tuple[int, ...]) -> tuple[str, str]:
    """Return the source's name, and why where the recipe leaves it open."""
    if spec.source != AUTO:
        return spec.source, ""
    if len(shape) != 3:
        form = "x".join(map(str, shape)) or "scalar"
        return "noise", f"Gaussian noise, because the model reads {form} values and no image"
    return "optimized", "images optimized through the teacher"
