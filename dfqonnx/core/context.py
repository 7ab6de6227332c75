"""The circumstances of a run, which every stage is given besides its own input."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.ranks import Ranks, SingleRank
from dfqonnx.core.stage_keeper import StageKeeper


@dataclass(frozen=True)
class MemoryShare:
    """How much of the usual memory a run takes; less where a limit asks for it."""

    work: float = 1.0  # of what one batch takes
    images: float = 1.0  # of what all images together take


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The circumstances of a run; none of them decides what is computed.

    Without `budget_seconds`, the wall clock that a stage may take, the recipe and the network
    decide, the same on every machine.
    """

    seed: int = 0  # of every random choice
    device: str = "cpu"  # of torch, `cpu` or `cuda`
    progress: Progress = field(default_factory=SilentProgress)
    budget_seconds: float | None = None
    memory: MemoryShare = field(default_factory=MemoryShare)
    ranks: Ranks = field(default_factory=SingleRank)  # the processes that share this run's work
    keeper: StageKeeper = field(default_factory=StageKeeper)  # of what stages made

    def with_budget(self, seconds: float | None) -> Self:
        """Return the context of a stage that may take `seconds` of wall clock."""
        return replace(self, budget_seconds=seconds)
