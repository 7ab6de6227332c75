"""The images of a run: those that an earlier run kept for the same model and recipe, else new ones.

Other bits, targets and recipes that ask for the same images get these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dfqonnx.checkpoint.cache import Cache
from dfqonnx.checkpoint.keys import digest, digest_files
from dfqonnx.config.commands import RunConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.stage_keeper import Entry
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents, needs_fixed_opponents
from dfqonnx.synthesis.kept_images import images_from_entry, images_to_entry
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from dfqonnx.workflows.kept_work import describe_circumstances
from dfqonnx.workflows.teacher import Teacher

IMAGE_SHARE = 0.35  # of a budget that images may take; training gets what is left


@dataclass(frozen=True, kw_only=True)
class ImageCache:
    """Where the images of a run are kept for every run that asks for the same."""

    cache: Cache
    config: RunConfig
    planned: tuple[Teacher, QuantizationPlan]
    own: NDArray[np.uint8]  # the user's, (N, H, W, C), to stand behind those that are made
    context: RunContext  # of the whole run

    def key(self, most_work: float | None) -> str:
        """Return the hash of everything that images depend on."""
        spec, (teacher, plan) = self.config.recipe.synthesis, self.planned
        checkpoint = spec.generator.checkpoint
        return digest(
            **describe_circumstances(self.config, teacher, self.context),
            synthesis=spec,
            checkpoint=digest_files([checkpoint] if checkpoint else []),
            plan=plan if needs_fixed_opponents(spec) else None,
            most_work=most_work,
        )

    def has(self, most_work: float | None) -> bool:
        """Return whether such images seem to be kept."""
        folder = self.cache.folder
        return folder is not None and self.cache.has(folder.images(self.key(most_work)))

    def give(self, most_work: float | None, context: RunContext) -> SyntheticImages:
        """Return images, kept or made, with the user's own behind them; see `ImageSupply`."""
        context.progress.start("synthesize", 1)
        images = self._find_or_make(most_work, context)
        return images.joined_by(self.own) if len(self.own) else images

    def _find_or_make(self, most_work: float | None, context: RunContext) -> SyntheticImages:
        """Return the images that are kept, else those that are made now, which are kept."""
        folder, cache = self.cache.folder, self.cache
        if context.ranks.count > 1:
            return self._find_or_make_together(most_work, context)
        if folder is None:
            return self._make(most_work, context)
        key = self.key(most_work)
        path = folder.images(key)
        with cache.making(path, key, waits=self.config.budget is None):
            images = cache.find(path, key, partial(self._build, context=context))
            if images is None:
                images = self._make(most_work, context)
                cache.keep(path, key, images_to_entry(images))
            else:
                count = f"{len(images.pixels):,} images"
                context.progress.note(f"The {count} are those that an earlier run kept.")
                context.progress.advance()
        return images

    def _find_or_make_together(
        self, most_work: float | None, context: RunContext
    ) -> SyntheticImages:
        """Do the same on several ranks, of which rank 0 has the cache."""
        key, cache = self.key(most_work), self.cache
        path = None if cache.folder is None else cache.folder.images(key)
        entry = None if path is None else cache.find(path, key, lambda found: found)
        entry = context.ranks.agree(entry)
        if entry is not None:
            return self._build(entry, context=context)
        images = self._make(most_work, context)
        if path is not None:
            cache.keep(path, key, images_to_entry(images))
        return images

    def _build(self, entry: Entry, *, context: RunContext) -> SyntheticImages:
        teacher = self.planned[0]
        return images_from_entry(
            entry,
            teacher.program,
            teacher.model.statistics,
            inputs=teacher.inputs,
            config=self.config.recipe.synthesis,
            context=context,
        )

    def _make(self, most_work: float | None, context: RunContext) -> SyntheticImages:
        (teacher, plan), recipe = self.planned, self.config.recipe.synthesis
        left = context.budget_seconds
        opponents = make_fixed_opponents(
            teacher.program, plan, spec=recipe, inputs=teacher.inputs, context=context
        )
        return synthesize(
            teacher.program,
            teacher.model.statistics,
            inputs=teacher.inputs,
            config=recipe,
            context=context.with_budget(left and IMAGE_SHARE * left),
            opponents=opponents,
            most_work=most_work,
        )
