"""The state of a training: everything that its steps change besides the students' parameters.

Only the verbs of `TrainingState` change it; its properties change nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from dfqonnx.distill.agreement import Agreement
from dfqonnx.distill.schedule import steps_within

LOG_EVERY = 25
FIRST_BUDGET_CHECK = 5  # steps; the next checks follow the log
_SAVED = (
    "total_steps", "budget_seconds", "step", "nonfinite_steps", "losses", "agreement",
    "stop_reason",
)  # fmt: skip
PATIENCE = 3  # steps in a row whose loss may be not finite


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """A line in the history of a training."""

    step: int
    seconds: float  # wall clock since the first step began
    loss: float  # the mean since the last entry
    lr_factor: float  # the learning rate over its peak
    rounding_temperature: float = 0.0  # 1: soft rounding rounds nothing, 0: all weights
    agreement: float | None = None  # top-1 on held-out images when it was last measured


@dataclass(kw_only=True)
class TrainingState:
    """How far a training is, and what it falls back to."""

    total_steps: int  # a budget changes it on the way
    before: Agreement  # held-out agreement of the untrained student
    untrained: Mapping[str, Tensor]  # see `Student.save_state`; empty where nothing is trained
    started: float  # the clock when distillation began, initialization included
    budget_seconds: float | None = None  # wall clock of distillation; None keeps `total_steps`
    step: int = 0  # the number of steps done
    first_step_started: float = 0.0  # the clock when training began
    nonfinite_steps: int = 0  # in a row, up to the last, whose loss was not finite
    losses: list[float] = field(default_factory=list)  # since the last log entry
    agreement: float | None = None  # top-1 on held-out images when it was last measured
    history: list[LogEntry] = field(default_factory=list)
    stop_reason: str = ""  # why training ended early; empty otherwise

    @property
    def is_over(self) -> bool:
        """Whether no further step is to be taken."""
        return self.step >= self.total_steps or bool(self.stop_reason)

    @property
    def done(self) -> float:
        """The fraction of the schedule that is over."""
        return self.step / self.total_steps

    @property
    def done_after_step(self) -> float:
        """The same after one more step."""
        return self.done + 1.0 / self.total_steps

    @property
    def seconds(self) -> float:
        """The wall clock since distillation began."""
        return time.perf_counter() - self.started

    def begin_training(self) -> None:
        """Set the clock of the first step, unless some steps are done."""
        if not self.step:
            self.first_step_started = time.perf_counter()

    def save(self) -> dict[str, Any]:
        """Return everything that steps change, as JSON can hold it; clocks as seconds so far."""
        now = time.perf_counter()
        return {
            **{name: getattr(self, name) for name in _SAVED},
            "history": [asdict(entry) for entry in self.history],
            "seconds": now - self.started,
            "training_seconds": now - self.first_step_started,
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on where `save` was; the time in between does not count."""
        history = [LogEntry(**entry) for entry in saved["history"]]
        if not 0 <= int(saved["step"]) <= int(saved["total_steps"]):
            raise ValueError(f"step {saved['step']} of {saved['total_steps']}")
        now = time.perf_counter()
        self.started = now - float(saved["seconds"])
        self.first_step_started = now - float(saved["training_seconds"])
        self.history = history
        for name in _SAVED:
            setattr(self, name, saved[name])

    def record_loss(self, loss: float) -> None:
        """Count a step; after `PATIENCE` losses in a row that are not finite, training is over."""
        self.step += 1
        if math.isfinite(loss):
            self.nonfinite_steps = 0
            self.losses.append(loss)
            return
        self.nonfinite_steps += 1
        if self.nonfinite_steps >= PATIENCE:
            self.stop_reason = (
                f"the loss was not finite in {PATIENCE} steps in a row, up to step {self.step}"
            )

    def record_agreement(self, top1: float | None) -> None:
        """Keep the top-1 agreement on held-out images, for the log."""
        self.agreement = top1

    def fit_steps_to_budget(self) -> bool:
        """Set `total_steps` to what the budget leaves time for; return whether that was due."""
        due = self.step == FIRST_BUDGET_CHECK or self.step % LOG_EVERY == 0
        if self.budget_seconds is None or not due:
            return False
        per_step = (time.perf_counter() - self.first_step_started) / self.step
        self.total_steps = steps_within(self.budget_seconds - self.seconds, self.step, per_step)
        return True

    def log(self, *, lr_factor: float, rounding_temperature: float) -> None:
        """Add an entry to the history after every `LOG_EVERY` steps, and after the last."""
        if self.step % LOG_EVERY and self.step != self.total_steps:
            return
        entry = LogEntry(
            step=self.step,
            seconds=time.perf_counter() - self.first_step_started,
            loss=float(np.mean(self.losses)),
            lr_factor=lr_factor,
            rounding_temperature=rounding_temperature,
            agreement=self.agreement,
        )
        self.history.append(entry)
        self.losses.clear()
