"""A model as a list of operator calls on torch tensors; `ProgramModule` and the student use it.

Calls whose inputs are all constants are computed once, at import. There is one tensor for each
initializer: a shared one stays shared.

A value is on the *host* when it comes from shapes alone (Shape, and arithmetic on its result). Host
values live on the CPU whatever the device, so that a computed Reshape needs no synchronization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dfqonnx.convert.tensors import numbers


@dataclass(frozen=True, kw_only=True)
class OpCall:
    """The call of one node's operator."""

    node: str
    op: str
    function: Callable[..., Any]  # computes the outputs from the inputs
    inputs: tuple[str | None, ...]  # in the order of the schema; None for an absent optional one
    outputs: tuple[str | None, ...]  # None for one that is not used
    attributes: Mapping[str, Any]  # keyword arguments of `function`
    host: frozenset[int] = frozenset()  # positions that `function` takes as Python numbers

    def reads(self) -> Iterator[str]:
        """Yield the names of the inputs that are present."""
        return (name for name in self.inputs if name is not None)

    def writes(self) -> Iterator[str]:
        """Yield the names of the outputs that are present."""
        return (name for name in self.outputs if name is not None)

    def evaluate(self, inputs: Iterable[Tensor | None]) -> tuple[Tensor, ...]:
        """Compute the outputs."""
        arguments = [
            numbers(value) if position in self.host and value is not None else value
            for position, value in enumerate(inputs)
        ]
        result = self.function(*arguments, **self.attributes)
        return result if isinstance(result, tuple) else (result,)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A whole model; values are named."""

    inputs: tuple[str, ...]  # fed at run time
    outputs: tuple[str, ...]
    logits: str  # the first of the values that distillation compares
    steps: tuple[OpCall, ...]  # the operator calls in an order that can be executed
    tensors: Mapping[str, Tensor]  # the constants
    host: frozenset[str] = frozenset()  # values that are computed on the CPU
    training_outputs: tuple[str, ...] = ()  # all values that distillation compares

    def readers(self) -> dict[str, list[OpCall]]:
        """Return the steps that read each value, in order; one that reads it twice stands twice."""
        found: dict[str, list[OpCall]] = {}
        for step in self.steps:
            for name in step.reads():
                found.setdefault(name, []).append(step)
        return found

    def step(self, node: str) -> OpCall:
        """Return the call of a node; KeyError where there is none, or it is folded."""
        for step in self.steps:
            if step.node == node:
                return step
        raise KeyError(node)

    def is_host(self, name: str) -> bool:
        """Tell whether a value is a constant or comes from shapes alone."""
        return name in self.host or name in self.tensors

    def runs_on_host(self, step: OpCall) -> bool:
        """Tell whether a step reads such values only."""
        return all(map(self.is_host, step.reads()))
