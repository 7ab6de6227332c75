"""Everything that can go wrong, as one small tree.

    DfqError                      the root; `exit_code` is what the command line ends with
    +-- UsageError           2    a flag, a path, a recipe key or a data file is wrong
    +-- UnsupportedModel     3    the model cannot be quantized; every offending node is named
    +-- EnvironmentProblem   4    ONNX Runtime missing or doubled, no CUDA device, disk full
    +-- InternalError        5    a promise of ours was broken: please report it

Messages name the file, node or key, the value, what was expected and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN = 8  # nodes of one fault that a message names


class DfqError(Exception):
    """Root of every error that dfqonnx raises on purpose."""

    exit_code = 5


class UsageError(DfqError):
    """The request is wrong: a flag, path, recipe key or data file."""

    exit_code = 2


@dataclass(frozen=True)
class Offense:
    """One reason why a model is refused, tied to its node."""

    node: str
    op: str
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        """Return `node (op): reason; advice`."""
        head = f"{self.node} ({self.op})" if self.op else self.node
        return f"{head}: {self.reason}" + (f"; {self.advice}" if self.advice else "")


class UnsupportedModel(DfqError):
    """The model cannot be quantized as it is.

    Attributes:
        offenses: every reason found, not only the first.
    """

    exit_code = 3

    def __init__(self, message: str, offenses: Sequence[Offense] = ()) -> None:
        self.offenses = tuple(offenses)
        super().__init__("\n".join([message, *(f"  - {line}" for line in summary(offenses))]))


def summary(offenses: Sequence[Offense]) -> list[str]:
    """Return one line per offense; many nodes with one fault share a line.

    >>> summary([Offense(f"n{i}", "Foo", "unknown") for i in range(12)])
    ['12 nodes (Foo): unknown: n0, n1, n2, n3, n4, n5, n6, n7, ... (--json names all)']
    """
    groups: dict[tuple[str, str, str], list[Offense]] = {}
    for offense in offenses:
        groups.setdefault((offense.op, offense.reason, offense.advice), []).append(offense)
    lines: list[str] = []
    for (op, reason, advice), group in groups.items():
        if len(group) <= 3:
            lines += map(str, group)
            continue
        names = ", ".join(offense.node for offense in group[:SHOWN])
        more = ", ... (--json names all)" if len(group) > SHOWN else ""
        lines.append(str(Offense(f"{len(group)} nodes", op, f"{reason}: {names}{more}", advice)))
    return lines


class EnvironmentProblem(DfqError):
    """The machine lacks something: a runtime, a device, disk space, a permission."""

    exit_code = 4


class InternalError(DfqError):
    """A promise of dfqonnx was broken; the message says which and what to report."""

    exit_code = 5
