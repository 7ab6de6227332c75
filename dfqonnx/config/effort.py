"""How much work a run takes where its recipe leaves that open: quick, default or high.

An effort multiplies the work on images and the steps of training that the default would take,
whatever the network. The quick one trains only classifiers that are far off their teachers: half of
a training that is short already brings little. What it costs and brings is told in
`docs/effort.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from dfqonnx.config.recipe import Recipe
from dfqonnx.errors import UsageError, did_you_mean

Effort = Literal["quick", "default", "high"]


@dataclass(frozen=True)
class WorkFactors:
    """What the work of the default is multiplied by, and what a classifier is trained from.

    `needs_training_kl` is the KL of an untrained classifier from its teacher, in nats, up to which
    nothing is trained; the default's W4A4 of a ResNet-20 begins at 0.13, its W3A3 at 0.4.
    """

    images: float
    training: float
    needs_training_kl: float = 0.0


EFFORTS: Mapping[Effort, WorkFactors] = {
    "quick": WorkFactors(images=0.3, training=0.5, needs_training_kl=0.3),
    "default": WorkFactors(images=1.0, training=1.0),
    "high": WorkFactors(images=1.0, training=6.0),
}


def apply_effort(recipe: Recipe, effort: Effort, *, budget: float | None) -> Recipe:
    """Return the recipe with the work of an effort; `budget` is that of the run, in seconds.

    Raises:
        UsageError: no such effort, or something else decides how much is done.
    """
    if effort not in EFFORTS:
        raise UsageError(
            f"--effort {effort!r} is not known{did_you_mean(effort, get_args(Effort))}"
        )
    if effort == "default":
        return recipe
    if budget is not None:
        raise UsageError(
            f"--effort {effort} and --budget {budget:g}s: both say how long a run takes; give one"
        )
    synthesis, training = recipe.synthesis, recipe.distillation
    if synthesis.images is not None and training.steps is not None:
        raise UsageError(
            f"--effort {effort}: recipe {recipe.title} says itself how many images and steps it"
            " takes; leave --effort away, choose another --scale, or use recipe default"
        )
    factors = EFFORTS[effort]
    return replace(
        recipe,
        synthesis=replace(synthesis, budget_scale=factors.images * synthesis.budget_scale),
        distillation=replace(
            training,
            budget_scale=factors.training * training.budget_scale,
            needs_training_kl=max(factors.needs_training_kl, training.needs_training_kl),
        ),
    )
