"""A model as a list of steps over torch tensors: what `ProgramModule` and the student are built from.

Steps whose inputs are all constants are computed here, once. One tensor per initializer: a shared
one stays shared.

A value is on the *host* when it comes from shapes alone (Shape, and arithmetic on its result). Host
values live on the CPU whatever the device, so that a computed Reshape needs no synchronization.

One node of a program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class OpCall:
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


@dataclass(frozen=True)
class Program:
    """A whole model.

    Attributes:
        inputs: names of the values fed at run time.
        outputs: names of the model's outputs.
        logits: the first of the values that distillation compares.
        training_outputs: all of them.
        steps: in an order that can be executed.
        tensors: constants by value name.
        host: names of the values that are computed on the CPU.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    logits: str
    steps: tuple[OpCall, ...]
    tensors: Mapping[str, Tensor]
    host: frozenset[str] = frozenset()
    training_outputs: tuple[str, ...] = ()

    def readers(self) -> dict[str, list[OpCall]]:
        """Return the steps that read each value, in order; one that reads it twice stands twice."""
        found: dict[str, list[OpCall]] = {}
        for step in self.steps:
            for name in step.reads():
                found.setdefault(name, []).append(step)
        return found

    def step(self, node: str) -> OpCall:
        """Return the step of a node.

        Raises:
            KeyError: no such node, or a folded one.
        """
        for step in self.steps:
            if step.node == node:
                return step
        raise KeyError(node)
