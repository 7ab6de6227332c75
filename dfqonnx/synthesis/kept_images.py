"""Synthetic images as kept entries, and back, with generators that can learn on.

A generator is built anew as before its training and then given the weights, the moments of its
optimizer and the random numbers that it was left with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
import torch

from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.core.stage_keeper import DamagedEntry, Entry
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.synthesis.generators.training import OnlineGenerators
from dfqonnx.synthesis.sources.generator import build_generators
from dfqonnx.synthesis.synthesis_context import SynthesisContext
from dfqonnx.synthesis.synthesize import SyntheticImages

GENERATOR = "generator."


def images_to_entry(images: SyntheticImages) -> Entry:
    """Return images, none of the user's among them, as an entry."""
    state = {} if images.generators is None else images.generators.save_state()
    learned = {GENERATOR + name: value.detach().cpu().numpy() for name, value in state.items()}
    facts = {
        "source": images.source,
        "reason": images.reason,
        "plan": asdict(images.plan),
        "seconds": images.seconds,
        "divergence": images.divergence,
        "reverse_divergence": images.reverse_divergence,
        "generators": images.generators is not None,
    }
    return Entry({"pixels": images.pixels, "kinds": images.kinds, **learned}, facts)


def images_from_entry(
    entry: Entry,
    teacher: Program,
    statistics: Mapping[str, ChannelStatistics],
    *,
    inputs: InputFormat,
    config: SynthesisConfig,
    context: RunContext,
) -> SyntheticImages:
    """Return the images of an entry that were made with the same arguments.

    Raises:
        DamagedEntry: it does not hold such images.
    """
    pixels, kinds = np.array(entry.array("pixels")), np.array(entry.array("kinds"))
    if pixels.dtype != np.uint8 or pixels.shape[1:] != inputs.image_size or not len(pixels):
        raise DamagedEntry(f"{pixels.dtype} {pixels.shape} are no images of this model")
    if kinds.dtype != np.int64 or kinds.shape != pixels.shape[:1]:
        raise DamagedEntry("the kinds of its images do not fit")
    facts, plan = entry.facts, SynthesisPlan(**entry.facts["plan"])
    divergence, reverse = facts["divergence"], facts["reverse_divergence"]
    images = SyntheticImages(
        pixels=pixels,
        source=str(facts["source"]),
        reason=str(facts["reason"]),
        plan=plan,
        seconds=float(facts["seconds"]),
        kinds=kinds,
        divergence=None if divergence is None else float(divergence),
        reverse_divergence=None if reverse is None else float(reverse),
    )
    if not facts["generators"]:
        return images
    source = SynthesisContext(
        teacher=teacher,
        statistics=statistics,
        inputs=inputs,
        config=config,
        plan=plan,
        generator=torch.Generator().manual_seed(context.seed),
        run=context,
    )
    return _with_generators(images, entry, source)


def _with_generators(
    images: SyntheticImages, entry: Entry, source: SynthesisContext
) -> SyntheticImages:
    generators: OnlineGenerators = build_generators(source)[0]
    state = {
        name.removeprefix(GENERATOR): torch.from_numpy(np.array(array))
        for name, array in entry.arrays.items()
        if name.startswith(GENERATOR)
    }
    try:
        generators.load_state(state)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise DamagedEntry(f"its generators do not fit: {error}") from None
    return replace(images, generators=generators)
