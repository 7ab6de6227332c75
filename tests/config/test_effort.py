"""`--effort`: what it multiplies, and what it does not go with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dfqonnx.config.effort import EFFORTS, apply_effort
from dfqonnx.config.recipe import Recipe, read_recipe
from dfqonnx.config.request import run_request
from dfqonnx.core.quantization import BitWidths
from dfqonnx.distill.schedule import default_steps, training_budget
from dfqonnx.errors import UsageError


def test_the_default_changes_nothing() -> None:
    assert apply_effort(Recipe(), "default", budget=None) == Recipe()
    assert run_request("m.onnx", 4).recipe == read_recipe("default")


@pytest.mark.parametrize("effort", ["quick", "high"])
def test_an_effort_multiplies_images_and_steps_of_the_recipe(effort: str) -> None:
    config = run_request("m.onnx", 4, effort=effort)
    factors = EFFORTS[effort]
    assert config.effort == effort
    assert config.recipe.synthesis.budget_scale == factors.images
    assert config.recipe.distillation.budget_scale == factors.training
    assert config.recipe.distillation.needs_training_kl == factors.needs_training_kl


def test_quick_is_shorter_and_high_is_longer() -> None:
    quick, default, high = (EFFORTS[name] for name in ("quick", "default", "high"))
    assert quick.images < default.images <= high.images
    assert quick.training < default.training < high.training
    budget = training_budget(BitWidths(4, 4), kl=0.13)
    steps = [
        default_steps(60_000_000, factors.training * budget, 64)
        for factors in (quick, default, high)
    ]
    assert steps == sorted(set(steps))


def test_quick_trains_only_what_is_far_off() -> None:
    least = EFFORTS["quick"].needs_training_kl
    assert EFFORTS["default"].needs_training_kl == EFFORTS["high"].needs_training_kl == 0
    for bits in (BitWidths(4, 4), BitWidths(3, 3), BitWidths(8, 8)):
        assert training_budget(bits, kl=least, needs_training_kl=least) == 0
        far = training_budget(bits, kl=2 * least, needs_training_kl=least)
        assert far == training_budget(bits, kl=2 * least) > 0
    without_classes = training_budget(BitWidths(4, 4), error=0.1, needs_training_kl=least)
    assert without_classes == training_budget(BitWidths(4, 4), error=0.1)


def test_a_recipe_of_its_own_scale_keeps_it() -> None:
    recipe = replace(Recipe(), synthesis=replace(Recipe().synthesis, budget_scale=2.0))
    quick = apply_effort(recipe, "quick", budget=None)
    assert quick.synthesis.budget_scale == 2.0 * EFFORTS["quick"].images


def test_what_says_the_same_otherwise_is_refused() -> None:
    with pytest.raises(UsageError, match="effort high and budget 60s"):
        run_request("m.onnx", 4, effort="high", budget="60s")
    with pytest.raises(UsageError, match="effort quick: recipe dfqf at quick scale"):
        run_request("m.onnx", 4, effort="quick", recipe="dfqf")
    with pytest.raises(UsageError, match=r"'hihg'.*did you mean 'high'"):
        run_request("m.onnx", 4, effort="hihg")


def test_a_recipe_that_leaves_its_images_open_takes_an_effort() -> None:
    assert run_request("m.onnx", 4, recipe="ptq", effort="quick").recipe.synthesis.budget_scale < 1


def test_the_default_effort_goes_with_a_time_limit() -> None:
    assert run_request("m.onnx", 4, budget="60s").budget == 60.0
