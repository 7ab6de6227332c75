"""An interrupted run goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import pytest

from dfqonnx.workflows.time_limits import Stopwatch
from tests.checkpoint.runs import PLAIN, STEPS, Interrupted, Interrupting, Quantize, uninterrupted

SGD = f"""
about: x
synthesis: {{source: dead-leaves, images: 48}}
distillation: {{steps: {STEPS}, batch_size: 16, optimizer: {{kind: sgd, rounding: ste}}}}
"""
GENERATORS = f"""
about: x
synthesis:
  source: generator
  images: 48
  batch_size: 16
  losses: {{batchnorm-kl: 1.0, adversarial: 1.0}}
  generator: {{architecture: gdfq, latent: 8, width_multiplier: 0.1, iterations: 2, batch_size: 16}}
  co_training: {{opponent: student, generators: 2, students: 2, student_steps: 1}}
distillation: {{steps: {STEPS}, batch_size: 16}}
"""


def interrupt(quantize: Quantize, recipe: str, stage: str, after: int = -1) -> None:
    with pytest.raises(Interrupted):
        quantize(recipe, Interrupting(stage, after))


@pytest.mark.parametrize(
    ("stage", "after"),
    [("initialize", -1), ("distill", 1), ("distill", 7), ("export", -1)],
)  # fmt: skip
def test_a_run_goes_on_where_it_was(quantize: Quantize, stage: str, after: int) -> None:
    whole = uninterrupted(quantize, PLAIN)
    interrupt(quantize, PLAIN, stage, after)
    again = Interrupting()
    assert quantize(PLAIN, again) == whole
    assert any("Continuing a run that stopped" in line for line in again.told)
    if stage == "distill" and after > 1:  # the step that was interrupted is not kept yet
        assert again.begins("distill")[0] == after - 1
        assert any(f"at step {after - 1} of {STEPS} of distill" in line for line in again.told)
    if stage == "export":
        assert not again.begins("distill")


@pytest.mark.parametrize("recipe", [SGD, GENERATORS], ids=["sgd", "generators"])
def test_twice_interrupted_is_the_same_as_never(quantize: Quantize, recipe: str) -> None:
    whole = uninterrupted(quantize, recipe)
    interrupt(quantize, recipe, "distill", 4)
    interrupt(quantize, recipe, "distill", 3)
    again = Interrupting()
    assert quantize(recipe, again) == whole
    assert again.begins("distill")[0] == 5


def test_a_budget_counts_what_was_spent_before_but_for_a_tenth() -> None:
    for spent, left in ((0.0, 100.0), (30.0, 70.0), (1000.0, 10.0)):
        found = Stopwatch(100.0).after(spent).left()
        assert found is not None
        assert left - 5 < found <= left  # a slow machine
    assert Stopwatch(None).after(30.0).left() is None


def test_a_run_within_a_budget_goes_on_with_its_limits(quantize: Quantize) -> None:
    first, again = Interrupting("distill", 3), Interrupting()
    with pytest.raises(Interrupted):
        quantize(PLAIN, first, budget=60.0)
    quantize(PLAIN, again, budget=60.0)
    assert again.begins("distill")[0] == 2
    assert any("at most" in line for line in again.told)
