"""A run that fits into memory: batches, and then the number of images, shrink until it does.

    1. batches      a half of what they usually take, a quarter, ... `LEAST_WORK`
    2. images       with the smallest batches, a half of their number, ... `LEAST_IMAGES`

The first step whose predicted peak (`core/memory_model`), and `SPARE` of it besides, is below the
limit is taken, else the last one where that is below without. Training
passes the images of a step in parts and adds up their gradients, so its result stays the same; what
is smaller in number (images, those of GPTQ) is told. Where even the last step needs more, the run
is refused before anything slow, with what it would need.

The limit is `--memory`, else what the container leaves, else the machine's memory; processes that
share a run on one machine share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dfqonnx.config.commands import RunConfig
from dfqonnx.core.container_memory import usable_memory
from dfqonnx.core.context import MemoryShare, RunContext
from dfqonnx.core.memory_model import predict_memory
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.run_counts import RunCounts
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.workflows.stage_seconds import count_run
from dfqonnx.workflows.teacher import Teacher

SPARE = 1.25  # times what is predicted: it was a quarter too low at worst
LEAST_WORK, LEAST_IMAGES = 1 / 64, 1 / 16  # of the usual
MIB = 2**20


def fit_to_memory(
    config: RunConfig, teacher: Teacher, plan: QuantizationPlan, context: RunContext
) -> RunContext:
    """Return the context of a run whose predicted peak is below its memory.

    Raises:
        UsageError: it cannot be with the `--memory` that was given.
        EnvironmentProblem: it cannot be with that of the machine or its container.
    """
    limit = memory_of_run(config, context)
    for share in _shares():
        tried = replace(context, memory=share)
        counts = count_run(config, teacher, plan, replace(tried, progress=SilentProgress()))
        needed = predict_memory(counts).peak
        if SPARE * needed <= limit:
            break
    if needed > limit:
        problem = UsageError if config.memory is not None else EnvironmentProblem
        raise problem(_explain(config, limit, needed))
    if share != MemoryShare():
        context.progress.note(_describe(counts, limit))
    return tried


def memory_of_run(config: RunConfig, context: RunContext) -> int:
    """Return the bytes that one process of a run may hold."""
    given = usable_memory() if config.memory is None else config.memory
    return given // context.ranks.neighbors


def _shares() -> Iterator[MemoryShare]:
    work = 1.0
    while work >= LEAST_WORK:
        yield MemoryShare(work)
        work /= 2
    images = 0.5
    while images >= LEAST_IMAGES:
        yield MemoryShare(LEAST_WORK, images)
        images /= 2


def _describe(counts: RunCounts, limit: int) -> str:
    at_once = f", {counts.part} at once" if counts.part < counts.batch else ""
    return (
        f"To stay within {limit / MIB:,.0f} MiB: {counts.all_images.images:,} images,"
        f" {counts.batch} of them in a training step{at_once}, {counts.gptq} for GPTQ."
    )


def _explain(config: RunConfig, limit: int, needed: float) -> str:
    need = f"about {needed / MIB:,.0f} MiB are needed with the smallest batches"
    if config.memory is None:
        return (
            f"{config.model}: this machine or its container leaves {limit / MIB:,.0f} MiB, and"
            f" {need}; take a larger one, or give --memory to try it with less than is predicted"
        )
    return (
        f"--memory {config.memory / MIB:,.0f}MiB: too little for {config.model}; {need}. Give"
        " more, or a smaller --image-size where the model leaves it open"
    )
