"""How a stage keeps its result, so that an interrupted run can go on behind it.

A stage asks `find` first, and hands what it made to `keep`. The `StageKeeper` here keeps nothing;
`checkpoint` has one that writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from numpy.typing import NDArray

Value = TypeVar("Value")
SYNTHESIZE, INITIALIZE, DISTILL, TRAINED = "synthesize", "initialize", "distill", "trained"
LIMITS = "limits"  # of the time for each stage, within a budget
ORDER = (SYNTHESIZE, INITIALIZE, DISTILL, TRAINED)


class DamagedEntry(Exception):
    """A kept file is not what was written; the message says why."""


@dataclass(frozen=True)
class Entry:
    """A kept result: arrays by name, and facts that JSON can hold."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def array(self, name: str, *, like: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return an array, which has the shape and the type of `like`.

        Raises:
            DamagedEntry: it is missing, or of another form.
        """
        found = self.arrays.get(name)
        if found is None:
            raise DamagedEntry(f"the array {name!r} is missing")
        if like is not None and (found.shape != like.shape or found.dtype != like.dtype):
            raise DamagedEntry(
                f"the array {name!r} is {found.dtype} {found.shape} instead of {like.dtype}"
                f" {like.shape}"
            )
        return found


class StageKeeper:
    """Keeps the results of stages, or, as it is, nothing."""

    def find(self, stage: str, build: Callable[[Entry], Value]) -> Value | None:
        """Return what `build` makes of a stage's kept result; None where there is none."""
        return None

    def keep(self, stage: str, entry: Entry, *, step: int = 0, steps: int = 0) -> None:
        """Keep the result of a stage."""

    def use_images(self, images: str) -> None:
        """Find and keep what was made with these images, by their hash, from now on."""

    def is_due(self) -> bool:
        """Return whether the state of a training is to be kept again."""
        return False
