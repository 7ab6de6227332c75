"""A model as a list of operator calls on torch tensors; `ProgramModule` and the student use it.

Calls whose inputs are all constants are computed once, at import. There is one tensor for each
initializer: a shared one stays shared.

A value is on the *host* when it comes from shapes alone (Shape, and arithmetic on its result). Host
values live on the CPU whatever the device, so that a computed Reshape needs no synchronization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class OpCall:
    """The call of one node's operator.

    Attributes:
        node: the name of the node.
        op: the operator type.
        function: computes the outputs from the inputs.
        inputs: value names in the order of the schema; None for an absent optional one.
        outputs: value names; None for one that is not used.
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
        """Yield the names of the inputs that are present."""
        return (name for name in self.inputs if name is not None)

    def writes(self) -> Iterator[str]:
        """Yield the names of the outputs that are present."""
        return (name for name in self.outputs if name is not None)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A whole model.

    Attributes:
        inputs: names of the values fed at run time.
        outputs: names of the model's outputs.
        logits: the first of the values that distillation compares.
        training_outputs: all values that distillation compares.
        steps: the operator calls in an order that can be executed.
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
        """Return the call of a node.

        Raises:
            KeyError: there is no such node, or it is folded.
        """
        for step in self.steps:
            if step.node == node:
                return step
        raise KeyError(node)
