"""What is kept of a run that several ranks share: rank 0 reads and writes, and tells the others.

All ranks find the same entry or none, so that they go on together; a damaged one is none for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dfqonnx.core.ranks import Ranks
from dfqonnx.core.stage_keeper import DamagedEntry, Entry, StageKeeper

Value = TypeVar("Value")


class RankKeeper(StageKeeper):
    """Shares what `own`, the keeper of rank 0, finds; keeps there what rank 0 made."""

    def __init__(self, own: StageKeeper, ranks: Ranks) -> None:
        self._own, self._ranks = own, ranks

    def find(self, stage: str, build: Callable[[Entry], Value]) -> Value | None:
        """Return what `build` makes of a stage's kept result; None where there is none."""
        found = self._own.find(stage, _as_it_is) if not self._ranks.rank else None
        entry = self._ranks.agree(found)
        if entry is None:
            return None
        try:
            return build(entry)
        except (DamagedEntry, KeyError, TypeError, ValueError):  # it is the same on all ranks
            return None

    def keep(self, stage: str, entry: Entry, *, step: int = 0, steps: int = 0) -> None:
        """Keep the result of a stage, on rank 0."""
        if not self._ranks.rank:
            self._own.keep(stage, entry, step=step, steps=steps)

    def use_images(self, images: str) -> None:
        """Find and keep what was made with these images, by their hash, from now on."""
        self._own.use_images(images)

    def is_due(self) -> bool:
        """Return whether the state of a training is to be kept again, by this rank."""
        return not self._ranks.rank and self._own.is_due()


def share_keeper(own: StageKeeper, ranks: Ranks) -> StageKeeper:
    """Return the keeper of a run that `ranks` share; that of one process is its own."""
    return own if ranks.count == 1 else RankKeeper(own, ranks)


def _as_it_is(entry: Entry) -> Entry:
    return entry
