"""Images that need no teacher: dead leaves for photographs, pictures of text, or a mixture of both.

A network for text sees dead leaves as nothing that it was trained on, and a network for photographs
so sees text. The share of text is chosen without data, from a few of each kind: it is the one whose
mixture comes nearest to what BatchNormalization remembers of the training data,

    share* = argmin_w J((1 - w) leaves + w text)     w in `SHARES`, J the reverse of `divergence`

where the moments of a mixture are those of its parts: m = sum w_k m_k, E[y^2] = sum w_k E_k[y^2].
Networks for photographs from 96 pixels on mostly ask for a quarter of text, whose calm grounds dead
leaves lack; those of 32 pixels, and face detectors, for none; networks for text for most.

Without statistics the shape decides, see `data/text_images`.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from torch import Tensor

from dfqonnx.data.text_images import text_images, text_share_of_shape
from dfqonnx.synthesis.bn_statistics import Moments
from dfqonnx.synthesis.budget import max_batch_size, measure_cost
from dfqonnx.synthesis.divergence import measure_image_moments, reverse_divergence
from dfqonnx.synthesis.sources.dead_leaves import dead_leaves, sample_dead_leaves
from dfqonnx.synthesis.synthesis_context import SOURCES, SynthesisContext

SHARES = (0.0, 0.125, 0.25, 0.5, 0.75, 0.875)  # of text; a few dead leaves are always left
BETTER, NOISE = 0.9, 0.005  # a share takes off a tenth of dead leaves' divergence, and 0.005 nats
PROBES, PROBE_VALUES = 128, 2**21  # images of a kind that are measured, and their pixels together
SEED = 7_001  # beside that of the run


@SOURCES.add("procedural")
def yield_procedural(context: SynthesisContext) -> Iterator[Tensor]:
    """Yield `plan.images` images, dead leaves and evenly among them the share of text."""
    count, size = context.plan.images, context.inputs.image_size
    if not count:
        return
    share = choose_text_share(context)
    is_text = np.diff(np.floor(share * np.arange(count + 1))) > 0  # (N,)
    context.run.progress.start("synthesize", count)
    leaves = dead_leaves(count - int(is_text.sum()), size, context.generator)
    text = text_images(int(is_text.sum()), size, np.random.default_rng(context.run.seed))
    if not is_text.any():
        for images in leaves:
            context.run.progress.advance(len(images))
            yield images
        return
    context.run.progress.note(f"{share:.0%} of the procedural images are pictures of text.")
    singles = (image[None] for images in leaves for image in images)
    for written in is_text:
        yield torch.from_numpy(next(text))[None] if written else next(singles)
        context.run.progress.advance(1)


def choose_text_share(context: SynthesisContext) -> float:
    """Return the share of pictures of text among procedural images for this network."""
    if context.config.text_fraction is not None:
        return context.config.text_fraction
    size = context.inputs.image_size
    if not context.inputs.is_image:
        return 0.0
    if not context.statistics:
        return text_share_of_shape(size)
    count = max(16, min(PROBES, PROBE_VALUES // prod(size), context.plan.images))
    leaves = sample_dead_leaves(count, size, torch.Generator().manual_seed(SEED))
    text = np.stack(list(text_images(count, size, np.random.default_rng(SEED))))
    found = [_measure(images, context) for images in (leaves, torch.from_numpy(text))]
    divergences = [
        reverse_divergence(mix_moments(*found, share=share), context.statistics, context.device)
        for share in SHARES
    ]
    best = int(np.argmin(divergences))
    wanted = min(BETTER * divergences[0], divergences[0] - NOISE)
    return SHARES[best] if divergences[best] < wanted else 0.0


def _measure(images: Tensor, context: SynthesisContext) -> dict[str, Moments]:
    cost = measure_cost(context.teacher, context.inputs.shape)
    batch = min(64, max_batch_size(cost, context.inputs.shape, context.run.memory.work))
    batches = (context.inputs.to_tensor(part) for part in torch.split(images, batch))
    found, _ = measure_image_moments(
        context.teacher, context.statistics, batches, context=context.run
    )
    return found


def mix_moments(
    first: dict[str, Moments], second: dict[str, Moments], *, share: float
) -> dict[str, Moments]:
    """Return mean and variance of every channel, (C,), on a set of which `share` is the second."""
    mixed = {}
    for name, (mean, variance) in first.items():
        other_mean, other_variance = second[name]
        middle = torch.lerp(mean, other_mean, share)
        within = torch.lerp(variance, other_variance, share)
        mixed[name] = middle, within + share * (1 - share) * (mean - other_mean).square()
    return mixed
