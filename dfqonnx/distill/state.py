"""The course of a training: how far it is, what was lost on the way, and what is kept of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from dfqonnx.core.progress import Progress
from dfqonnx.distill.schedule import steps_within

REPORT_EVERY = 25


@dataclass(frozen=True)
class LogEntry:
    """The state of training after `step` steps.

    Attributes:
        step: steps done.
        seconds: since training began.
        loss: mean since the last moment.
        rate: learning rate over its peak.
        width: of the ramp between two codes, 1 to 0; 0 where all weights are rounded.
        agreement: top-1 agreement on held-out images when it was last measured; None before.
    """

    step: int
    seconds: float
    loss: float
    rate: float
    width: float = 0.0
    agreement: float | None = None


@dataclass
class TrainingState:
    """What the loop hands from step to step.

    Attributes:
        started: when distillation began.
        total: steps in all; a budget changes it on the way.
        budget: wall-clock seconds; None lets the recipe decide.
        step: steps done.
        lost: steps in a row whose loss was not finite.
        agreement: when it was last measured.
        losses: since the last moment.
        history: every moment so far.
        reason: why it ended early, or why its result is not kept.
    """

    started: float
    total: int
    budget: float | None
    step: int = 0
    lost: int = 0
    agreement: float | None = None
    losses: list[float] = field(default_factory=list)
    history: list[LogEntry] = field(default_factory=list)
    reason: str = ""

    def seconds(self) -> float:
        """Return the wall clock since distillation began."""
        return time.perf_counter() - self.started

    def tell(
        self, loss: float, rate: float, *, width: float, since: float, progress: Progress
    ) -> None:
        """Note a step, tell of it, and fit the rest into the budget.

        Args:
            loss: of the step.
            rate: over its peak.
            width: of the ramp between two codes.
            since: when training, without what came before it, began.
            progress: told.
        """
        self.losses.append(loss)
        figures = {} if self.agreement is None else {"agreement": self.agreement}
        progress.advance(1, loss=loss, **figures)
        spent = time.perf_counter() - since
        if self.budget is not None and (self.step == 5 or self.step % REPORT_EVERY == 0):
            left = self.budget - self.seconds()
            self.total = steps_within(left, self.step, spent / self.step)
            progress.start("distill", self.total, done=self.step)
        if self.step % REPORT_EVERY == 0 or self.step == self.total:
            mean = float(np.mean(self.losses))
            self.history.append(LogEntry(self.step, spent, mean, rate, width, self.agreement))
            self.losses.clear()
