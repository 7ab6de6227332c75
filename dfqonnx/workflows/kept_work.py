"""What a run keeps and finds again: the keys of its images and of its work.

    widths    model, limits, rules, target                  (where they are looked for)
    images    model, synthesis, seed, device, budget        (and the plan, where they depend on it)
    work      the same, the plan, equalization, distillation, the user's own images

All name the versions of what computes, and hash the code of this one. Gates, data to measure on
and the output folder are in none: nothing that is kept depends on them. The network is opened,
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
from dfqonnx.config.kept_widths import KeptWidths, widths_from_facts, widths_to_facts
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.stage_keeper import SYNTHESIZE, Entry
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.version import __version__
from dfqonnx.workflows.choose_widths import choose_all_widths, tell_choice
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


def find_or_choose_widths(
    cache: Cache, configs: Sequence[RunConfig], teacher: Teacher, context: RunContext
) -> tuple[RunConfig, ...]:
    """Return the runs with their widths: as a search left them before, else as it finds them now.

    Raises:
        UsageError, UnsupportedModel: see `choose_widths`.
    """
    found = []
    for config in configs:
        kept = None if config.search is None else _find_widths(cache, config, teacher, context)
        kept = context.ranks.agree(kept)
        if kept is not None:
            tell_choice(kept.choice, teacher, context.progress)
            found.append(kept.apply(config))
            continue
        (chosen,) = choose_all_widths((config,), teacher, context)
        chosen = context.ranks.agree(chosen)
        if chosen.search is not None and cache.folder is not None:
            key = _widths_key(config, teacher, context)
            entry = Entry(facts=widths_to_facts(KeptWidths.of(chosen)))
            cache.keep(cache.folder.widths(key), key, entry)
        found.append(chosen)
    return tuple(found)


def _find_widths(
    cache: Cache, config: RunConfig, teacher: Teacher, context: RunContext
) -> KeptWidths | None:
    if cache.folder is None:
        return None
    key = _widths_key(config, teacher, context)
    path = cache.folder.widths(key)
    return cache.find(path, key, lambda entry: widths_from_facts(entry.facts))


def _widths_key(config: RunConfig, teacher: Teacher, context: RunContext) -> str:
    return digest(
        **describe_circumstances(config, teacher, context),
        equalization=config.recipe.equalization,
        quant=config.quant,
        nodes=config.nodes,
        search=config.search,
        target=config.target,
    )


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
