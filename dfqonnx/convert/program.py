"""A model as a list of steps over torch tensors: what `Net` and the student are built from.

Steps whose inputs are all constants are computed here, once. One tensor per initializer: a shared
one stays shared.

A value is on the *host* when it comes from shapes alone (Shape, and arithmetic on its result). Host
values live on the CPU whatever the device, so that a computed Reshape needs no synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

import dfqonnx.convert.ops as _ops  # noqa: F401  (files the operators)
from dfqonnx.convert import registry
from dfqonnx.convert.tensors import attribute_value, to_tensor
from dfqonnx.errors import Offence, UnsupportedModel
from dfqonnx.graph.model import Model

SHAPE_READERS = frozenset({"Shape", "Size"})


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


@dataclass(frozen=True)
class Program:
    """A whole model.

    Attributes:
        inputs: names of the values fed at run time.
        outputs: names of the model's outputs.
        logits: the value that distillation compares.
        steps: in an order that can be executed.
        tensors: constants by value name.
        host: names of the values that are computed on the CPU.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    logits: str
    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    host: frozenset[str] = frozenset()

    def step(self, node: str) -> Step:
        """Return the step of a node.

        Raises:
            KeyError: no such node.
        """
        for step in self.steps:
            if step.node == node:
                return step
        raise KeyError(node)


def to_program(model: Model) -> Program:
    """Translate a normalised model.

    Raises:
        UnsupportedModel: naming every node that cannot be translated.
    """
    return program_from_ir(model.ir, logits=model.logits)


def program_from_ir(model: ir.Model, *, logits: str | None = None) -> Program:
    """Translate an onnx_ir model; `logits` is its first output unless named.

    Raises:
        UnsupportedModel: naming every node that cannot be translated.
    """
    graph = model.graph
    reader = _Reader(dict(graph.opset_imports))
    for name, value in graph.initializers.items():
        reader.constant(name, value)
    inputs = tuple(str(v.name) for v in graph.inputs if v.name not in graph.initializers)
    reader.known.update(inputs)
    for index, node in enumerate(graph):
        reader.node(node, name=node.name or f"{node.op_type}_{index}")
    outputs = tuple(str(value.name) for value in graph.outputs)
    if reader.offences:
        count = len(reader.offences)
        raise UnsupportedModel(
            f"{count} node{'s' if count > 1 else ''} cannot be translated", reader.offences
        )
    return Program(
        inputs=inputs,
        outputs=outputs,
        logits=logits or outputs[0],
        steps=tuple(reader.steps),
        tensors=reader.tensors,
        host=frozenset(reader.host),
    )


class _Reader:
    """Collects steps, constants and offences while walking the nodes."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self.opsets = opsets
        self.tensors: dict[str, Tensor] = {}
        self.unreadable: dict[str, str] = {}
        self.known: set[str] = set()
        self.host: set[str] = set()
        self.steps: list[Step] = []
        self.offences: list[Offence] = []

    def constant(self, name: str, value: ir.Value) -> None:
        self.known.add(name)
        if value.const_value is None:
            self.unreadable[name] = "has no data"
            return
        try:
            self.tensors[name] = to_tensor(value.const_value)
        except ValueError as error:
            self.unreadable[name] = str(error)

    def node(self, node: ir.Node, *, name: str) -> None:
        self.known.update(str(value.name) for value in node.outputs)
        step = self._translate(node, name)
        if isinstance(step, Offence):
            self.offences.append(step)
        elif all(read in self.tensors for read in step.reads()):
            self._fold(step)
        else:
            reads = [n for n in step.reads() if n not in self.tensors]
            if step.op in SHAPE_READERS or all(n in self.host for n in reads):
                self.host.update(step.writes())
            self.steps.append(step)

    def _translate(self, node: ir.Node, name: str) -> Step | Offence:
        opset = self.opsets.get(node.domain)
        known = registry.find(node.domain, node.op_type, opset) if opset is not None else None
        if known is None:
            return _unknown(node, name, opset)
        inputs = _trimmed([None if v is None or not v.name else v.name for v in node.inputs])
        outputs = _trimmed([v.name or None for v in node.outputs])
        for read in inputs:
            if read is not None and read not in self.known:
                return Offence(name, node.op_type, f"reads {read!r}, which nothing produces")
            if read in self.unreadable:
                return Offence(name, node.op_type, f"reads {read!r}: {self.unreadable[read]}")
        reason = _misfit(known, node, inputs, outputs)
        if reason:
            return Offence(name, node.op_type, reason, "re-export with a newer opset")
        try:
            attributes = {a.name: attribute_value(a) for a in node.attributes.values()}
        except ValueError as error:
            return Offence(name, node.op_type, str(error))
        if known.counts_outputs:
            attributes["outputs"] = len(outputs)
        return Step(name, node.op_type, known.function, inputs, outputs, attributes, known.host)

    @torch.no_grad()
    def _fold(self, step: Step) -> None:
        arguments: list[Any] = [None if n is None else self.tensors[n] for n in step.inputs]
        for position in step.host:
            if position < len(arguments) and arguments[position] is not None:
                arguments[position] = numbers(arguments[position])
        try:
            result = step.function(*arguments, **step.attributes)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = f"its constant inputs cannot be evaluated: {str(error).splitlines()[0]}"
            self.offences.append(Offence(step.node, step.op, reason))
            return
        results = result if isinstance(result, tuple) else (result,)
        for name, tensor in zip(step.outputs, results, strict=True):
            if name is not None:
                self.tensors[name] = tensor


def numbers(tensor: Tensor) -> tuple[Any, ...]:
    """Return the elements as Python numbers."""
    return tuple(tensor.flatten().tolist())


def _trimmed(names: list[str | None]) -> tuple[str | None, ...]:
    while names and names[-1] is None:
        names.pop()
    return tuple(names)


def _unknown(node: ir.Node, name: str, opset: int | None) -> Offence:
    op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    if opset is None:
        return Offence(name, op, f"the model imports no opset for domain {node.domain!r}")
    if node.domain not in ("", "ai.onnx"):
        reason = f"domain {node.domain} is not supported"
        return Offence(name, op, reason, "export with operators of the domain ai.onnx only")
    since = registry.since_version("", node.op_type, opset)
    if since is None:
        return Offence(name, op, f"opset {opset} has no such operator", "re-export the model")
    others = registry.versions(node.op_type)
    if others:
        listed = ", ".join(str(version) for version in others)
        reason = f"version {since} is not supported (known: {listed})"
        return Offence(name, op, reason, "convert the model to opset 21")
    return Offence(
        name, op, "this operator is not supported", "leave it out of the exported part of the model"
    )


def _misfit(
    known: registry.Operator,
    node: ir.Node,
    inputs: tuple[str | None, ...],
    outputs: tuple[str | None, ...],
) -> str | None:
    """Return why the node does not fit the function's signature, or None."""
    extra = sorted(set(node.attributes) - known.attributes)
    if extra:
        return f"attribute {extra[0]} is not supported"
    missing = sorted(known.required - set(node.attributes))
    if missing:
        return f"attribute {missing[0]} is missing"
    if len(inputs) < known.least or None in inputs[: known.least]:
        return f"has {len(inputs)} inputs, but needs {known.least}"
    if known.most is not None and len(inputs) > known.most:
        return f"has {len(inputs)} inputs, but only {known.most} are supported"
    if len(outputs) > 1 and not known.counts_outputs:
        return f"has {len(outputs)} outputs, but only the first is supported"
    return None
