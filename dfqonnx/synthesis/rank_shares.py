"""Images made by several ranks: each makes its share from a seed of its own, and all get all.

N images of which M are optimized, on R ranks: rank r makes N / R and optimizes M / R of them, give
or take one. What is joined has the optimized images first, as one rank makes them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dfqonnx.core.context import RunContext
from dfqonnx.core.ranks import Ranks
from dfqonnx.errors import UsageError
from dfqonnx.synthesis.budget import SynthesisPlan

SEED_OF_RANK = 15_485_863  # between the seeds of ranks
ONE_RANK = {"generator"}  # sources whose networks learn on from what one process has drawn


def check_source(name: str, ranks: Ranks) -> None:
    """Refuse a source that only one process can draw from.

    Raises:
        UsageError: there are several.
    """
    if ranks.count > 1 and name in ONE_RANK:
        raise UsageError(
            f"synthesis.source `{name}` trains networks that make images, in one process, and"
            f" torchrun started {ranks.count}; start it without torchrun, or take a recipe with"
            " another source, such as default"
        )


def share_plan(plan: SynthesisPlan, ranks: Ranks) -> SynthesisPlan:
    """Return what this rank makes."""
    if ranks.count == 1:
        return plan
    images = count_share(plan.images, ranks)
    optimized = min(images, count_share(plan.optimized, ranks))
    batch = max(1, min(plan.batch, optimized))
    return replace(plan, images=images, optimized=optimized, batch=batch)


def count_share(count: int, ranks: Ranks) -> int:
    """Return this rank's share of `count`; those of all ranks add up to it."""
    return count // ranks.count + (ranks.rank < count % ranks.count)


def share_context(context: RunContext) -> RunContext:
    """Return the context in which this rank makes its images, with a seed of its own."""
    return replace(context, seed=context.seed + SEED_OF_RANK * context.ranks.rank)


def join_images(images: Tensor, guided: int, ranks: Ranks) -> tuple[Tensor, int]:
    """Return the images (N, H, W, C) of all ranks, those that a teacher guided first, and how many.

    The first `guided` of this rank's own are such.
    """
    if ranks.count == 1:
        return images, guided
    found = ranks.gather((images[:guided], images[guided:]))
    joined = torch.cat([*(first for first, _ in found), *(rest for _, rest in found)])
    return joined, sum(len(first) for first, _ in found)
