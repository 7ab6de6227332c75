"""What a run keeps and finds again: the keys of its images and of its work.

    images    model, synthesis, seed, device, budget        (and the plan, where they depend on it)
    work      the same, the plan, equalization, distillation, the user's own images

Both name the versions of what computes, and hash the code of this one. Gates, data to measure on
and the output folder are in neither: nothing that is kept depends on them. The network is opened,
planned and equalized anew in seconds, always with the same result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.checkpoint.cache import Cache
from dfqonnx.checkpoint.keys import digest, digest_files, digest_package
from dfqonnx.checkpoint.stages import RunProgress, RunWork
from dfqonnx.config.commands import RunConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.stage_keeper import SYNTHESIZE
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.version import __version__
from dfqonnx.workflows.teacher import Teacher


def open_work(
    cache: Cache,
    config: RunConfig,
    planned: tuple[Teacher, QuantizationPlan],
    *,
    own: NDArray[np.uint8],
    context: RunContext,
) -> RunWork:
    """Return the kept work of a run for one target."""
    teacher, plan = planned
    key = digest(
        **describe_circumstances(config, teacher, context),
        synthesis=config.recipe.synthesis,
        equalization=config.recipe.equalization,
        distillation=config.recipe.distillation,
        plan=plan,
        target=config.target,
        own=own,
    )
    progress = RunProgress(
        model=str(config.model.absolute()),
        bits=config.quant.bits.label,
        target=config.target,
        recipe=config.recipe.title,
    )
    return RunWork(cache, key, progress)


def hash_images(images: SyntheticImages) -> str:
    """Return a hash of images, by which stages that were made with them are found."""
    return digest(pixels=images.pixels, kinds=images.kinds)


def shares_left(works: Sequence[RunWork], *, has_images: bool) -> dict[str, float]:
    """Return the share of each stage that is left; of several targets, of the images alone."""
    shares = works[0].progress.left() if len(works) == 1 and works[0].continues else {}
    return {**shares, SYNTHESIZE: 0.0 if has_images else 1.0}


def describe_circumstances(
    config: RunConfig, teacher: Teacher, context: RunContext
) -> dict[str, Any]:
    """Return what every kept result depends on, by name."""
    source = teacher.model.source
    return {
        "versions": (__version__, digest_package(), torch.__version__, np.__version__),
        "model": (source.sha256, digest_files(source.data_files)),
        "inputs": dataclasses.asdict(teacher.inputs.preprocessing),
        "shape": teacher.inputs.shape,
        "given": config.inputs,
        "seed": config.seed,
        "device": context.device,
        "budget": config.budget,
        "memory": dataclasses.asdict(context.memory),
        "ranks": context.ranks.count,
    }
