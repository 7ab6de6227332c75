"""A budget is shared among the stages: fewer images where one pass of an image is slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.config.recipe import Recipe
from dfqonnx.core.context import RunContext
from dfqonnx.distill import initialize
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.workflows import time_limits
from dfqonnx.workflows.time_limits import FEWEST, TimeLimits, fit_to_budget

PASSES = time_limits.CALIBRATION_PASSES, time_limits.PROOF_PASSES


class Teacher:
    """What is asked of a float model here."""

    program, inputs = None, type("Inputs", (), {"shape": (3, 8, 8)})


def limits(monkeypatch: pytest.MonkeyPatch, left: float | None, once: float) -> TimeLimits:
    monkeypatch.setattr(time_limits, "measure_pass", lambda program, shape: once)
    return fit_to_budget(Recipe(), Teacher(), left)  # type: ignore[arg-type]


def test_without_a_budget_the_recipe_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    found = limits(monkeypatch, None, 1.0)
    assert found == TimeLimits(recipe=Recipe())
    assert found.proof_images(256, None) == 256


def test_a_long_budget_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = limits(monkeypatch, 3600.0, 0.001)
    assert found.recipe == Recipe()
    assert found.latency_seconds == time_limits.LATENCY_SECONDS
    assert found.has_estimates


@pytest.mark.parametrize("once", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("left", [15.0, 60.0, 300.0])
def test_what_is_left_for_training_is_half_of_a_budget_at_least(
    monkeypatch: pytest.MonkeyPatch, left: float, once: float
) -> None:
    found = limits(monkeypatch, left, once)
    config = found.recipe.distillation
    initial = config.calibration_images * PASSES[0] * once
    fewest = FEWEST * sum(PASSES) * once  # which any run needs
    assert initial + found.proof_seconds(10_000) <= 0.75 * left + fewest
    assert found.proof_seconds(80) <= found.proof_seconds(10_000)
    estimate = 2 * time_limits.FIXED_IMAGES * once
    assert found.has_estimates == (estimate <= time_limits.ESTIMATE * left)
    shown = found.proof_images(config.holdout_images, found.proof_seconds(10_000))
    assert FEWEST <= shown <= config.holdout_images
    assert found.proof_images(256, 0.1) == FEWEST  # late as it is, something is measured


def test_an_estimate_without_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = limits(monkeypatch, 20.0, 1.0)
    file = Path("none.onnx")
    estimates = found.estimate_losses(file, file, inputs=None, real=None)  # type: ignore[arg-type]
    for estimate in (estimates.drop, estimates.agreement):
        assert (estimate.value, estimate.reason) == (None, "the budget leaves no time for it")


def test_a_plan_for_images_shrinks_in_all_its_parts() -> None:
    plan = SynthesisPlan(images=1000, optimized=200, batch=64, first_batch_steps=60, batch_steps=30)
    assert plan.at_most(2000) == plan
    less = plan.at_most(50)
    assert (less.images, less.optimized, less.batch) == (50, 10, 50)
    assert less.steps == 60


def test_candidates_end_where_their_share_of_the_budget_does() -> None:
    context = RunContext(budget_seconds=10.0)
    assert initialize._has_time(context, 3.9)
    assert not initialize._has_time(context, 4.1)
    assert initialize._has_time(RunContext(), 1e9)
