"""Parts of a report: rules that were checked, and the verdict that they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Measured:
    """What one of the user's rules was held against, in the rule's own unit.

    Attributes:
        value: estimate.
        low: of its interval; the estimate itself where it is exact.
        high: of its interval.
        n: images, turns, or 1 where it is exact.
        needed: how many images would decide an open rule; None where it is decided, or where no
            number of them would.
    """

    value: float
    low: float
    high: float
    n: int
    needed: int | None = None


@dataclass(frozen=True)
class Gate:
    """A rule that must hold: a promise of ours, or one that the user asked for.

    Attributes:
        rule: what it says, such as `no Conv or Gemm in float`, or `drop<=1.0`.
        value: what was found, in words.
        holds: None where the data does not settle it.
        asked: whether the user set it.
        measured: the figures; None for promises, and where nothing was measured.
    """

    rule: str
    value: str
    holds: bool | None
    asked: bool = False
    measured: Measured | None = None


def settle(gates: tuple[Gate, ...]) -> Verdict:
    """Return the verdict that `gates` add up to."""
    if any(gate.holds is False for gate in gates):
        return "fail"
    return "inconclusive" if any(gate.holds is None for gate in gates) else "pass"
