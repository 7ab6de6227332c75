"""One node of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One node.

    Attributes:
        node: name of the node.
        op: operator type.
        function: computes the outputs from the inputs.
        inputs: value names in the order of the schema; None for an absent optional one.
        outputs: value names; None for one that nobody asked for.
        attributes: keyword arguments of `function`.
        host: positions of the inputs that `function` takes as a tuple of Python numbers.
    """

    node: str
    op: str
    function: Callable[..., Any]
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    attributes: Mapping[str, Any]
    host: frozenset[int] = frozenset()

    def reads(self) -> Iterator[str]:
        """Yield the names of the inputs that are there."""
        return (name for name in self.inputs if name is not None)

    def writes(self) -> Iterator[str]:
        """Yield the names of the outputs that are there."""
        return (name for name in self.outputs if name is not None)
