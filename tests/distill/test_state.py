"""The state of a training changes by its verbs alone, and the decision changes nothing."""

from __future__ import annotations

import copy
import time

import pytest

from dfqonnx.distill.agreement import Agreement
from dfqonnx.distill.distill import decide
from dfqonnx.distill.state import FIRST_BUDGET_CHECK, LOG_EVERY, PATIENCE, TrainingState

BEFORE = Agreement(0.8, 0.1)


def begun(total_steps: int = 100, budget_seconds: float | None = None) -> TrainingState:
    state = TrainingState(
        total_steps=total_steps,
        before=BEFORE,
        untrained={},
        started=time.perf_counter(),
        budget_seconds=budget_seconds,
    )
    state.begin_training()
    return state


def test_fractions_of_the_schedule_follow_the_steps() -> None:
    state = begun(4)
    assert (state.done, state.done_after_step, state.is_over) == (0.0, 0.25, False)
    for _ in range(4):
        assert not state.is_over
        state.record_loss(1.0)
    assert (state.step, state.done, state.is_over) == (4, 1.0, True)


def test_an_entry_holds_the_mean_loss_since_the_last_one() -> None:
    state = begun(LOG_EVERY + 2)
    for step in range(LOG_EVERY + 2):
        state.record_loss(1.0 if step < LOG_EVERY else step - LOG_EVERY + 3.0)
        state.log(lr_factor=0.5, rounding_temperature=0.25)
    assert [(e.step, e.loss) for e in state.history] == [(LOG_EVERY, 1.0), (LOG_EVERY + 2, 3.5)]


def test_only_losses_in_a_row_that_are_not_finite_end_a_training() -> None:
    state = begun()
    for loss in (*[float("nan")] * (PATIENCE - 1), 1.0, *[float("inf")] * (PATIENCE - 1)):
        state.record_loss(loss)
    assert not state.is_over
    assert state.losses == [1.0]
    state.record_loss(float("nan"))
    assert state.is_over
    assert f"up to step {2 * PATIENCE}" in state.stop_reason


def test_a_budget_sets_the_steps_at_the_first_check_and_with_the_log() -> None:
    state = begun(10**6, budget_seconds=-1.0)  # spent: one more step, to end cleanly
    due = []
    for step in range(1, FIRST_BUDGET_CHECK + 1):
        state.record_loss(1.0)
        due += [step] if state.fit_steps_to_budget() else []
    assert due == [FIRST_BUDGET_CHECK]
    assert state.total_steps == FIRST_BUDGET_CHECK + 1
    assert not begun().fit_steps_to_budget()


@pytest.mark.parametrize(
    ("stop_reason", "after", "on_held_out", "on_painted", "word"),
    [
        ("", Agreement(0.9, 0.05), False, False, ""),
        ("", Agreement(0.7, 0.05), True, False, ""),  # one measure alone is within the noise
        ("", Agreement(0.9, 0.105), True, False, ""),
        ("", Agreement(0.9, 0.2), True, False, "held-out"),  # so much further off
        ("", Agreement(0.7, 0.2), False, False, ""),  # both are, but no more than by noise
        ("", Agreement(0.7, 0.2), True, False, "held-out"),
        ("", Agreement(0.9, 0.05), False, True, "procedural images"),
        ("the loss was not finite", Agreement(0.7, 0.2), True, True, "not finite"),
    ],
)
def test_a_student_is_kept_that_no_measure_speaks_against(
    stop_reason: str, after: Agreement, on_held_out: bool, on_painted: bool, word: str
) -> None:
    state = begun()
    state.stop_reason = stop_reason
    same = copy.deepcopy(state)
    decision = decide(state, after, on_held_out=on_held_out, on_painted=on_painted)
    assert decision.kept == (not word)
    assert word in decision.reason
    assert state == same
