"""What a recipe cannot do without, and which one to take instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from dfqonnx.errors import UsageError
from dfqonnx.spec.recipe import shipped_recipes
from dfqonnx.spec.run import Need, Recipe

LACKS: Mapping[Need, str] = {
    "statistics": "no BatchNormalization (it may have been folded away when it was exported)",
    "classes": "no scores of classes at its end",
    "student": "no student to train",
}


def check_needs(recipe: Recipe, model: Path, *, there: Collection[Need]) -> None:
    """Refuse a recipe that the model cannot serve.

    Args:
        recipe: the one asked for.
        model: the user's file, for the message.
        there: what the model, and the command, have.

    Raises:
        UsageError: something is missing; the nearest recipe that works is named.
    """
    missing = [need for need in recipe.needs if need not in there]
    if not missing:
        return
    other = nearest_recipe(recipe, there)
    raise UsageError(
        f"--recipe {recipe.name} needs {' and '.join(missing)}, and {model} has "
        f"{'; '.join(LACKS[need] for need in missing)}. The nearest that works: "
        f"--recipe {other.name} ({other.about})"
    )


def nearest_recipe(recipe: Recipe, there: Collection[Need]) -> Recipe:
    """Return the shipped recipe that works and is most like `recipe`.

    Likeness: the source, whether it trains, then how many losses they have in common; the default
    recipe wins where that decides nothing.
    """
    fit = [r for r in shipped_recipes().values() if set(r.needs) <= set(there)]
    return max(fit, key=lambda other: (*_likeness(recipe, other), other.name == "default"))


def _likeness(one: Recipe, other: Recipe) -> tuple[bool, bool, int]:
    losses = ({t.name for t in r.synth.losses if t.weight} for r in (one, other))
    trains = (r.distill.steps != 0 for r in (one, other))
    return (
        one.synth.source == other.synth.source,
        len(set(trains)) == 1,
        len(set.intersection(*losses)),
    )
