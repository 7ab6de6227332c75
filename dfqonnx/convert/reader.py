"""Walks the nodes of an ONNX graph: steps, constants, and what cannot be translated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

import dfqonnx.convert.ops as _ops  # noqa: F401  (files the operators)
from dfqonnx.convert import registry
from dfqonnx.convert.fit import EVAL_MODE, Names, misfit, unknown
from dfqonnx.convert.step import Step
from dfqonnx.convert.tensors import attribute_value, numbers, to_tensor
from dfqonnx.errors import Offence

SHAPE_READERS = frozenset({"Shape", "Size"})


class Reader:
    """Collects the parts of a program.

    Attributes:
        tensors: constants by name, folded ones included.
        steps: what is left to do at run time.
        host: values that come from shapes alone.
        offences: every node that cannot be translated, and why.
    """

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.steps: list[Step] = []
        self.host: set[str] = set()
        self.offences: list[Offence] = []
        self._opsets = opsets
        self._unreadable: dict[str, str] = {}
        self._known: set[str] = set()

    def feed(self, name: str) -> None:
        """Take note of a graph input."""
        self._known.add(name)

    def constant(self, name: str, value: ir.Value) -> None:
        """Take an initializer."""
        self._known.add(name)
        if value.const_value is None:
            self._unreadable[name] = "has no data"
            return
        try:
            self.tensors[name] = to_tensor(value.const_value)
        except ValueError as error:
            self._unreadable[name] = str(error)

    def node(self, node: ir.Node, *, name: str) -> None:
        """Take a node: fold it, or add a step, or note an offence."""
        step = self._translate(node, name)
        self._known.update(str(value.name) for value in node.outputs)
        if isinstance(step, Offence):
            self.offences.append(step)
            return
        reads = [n for n in step.reads() if n not in self.tensors]
        if not reads:
            self._fold(step)
            return
        if step.op in SHAPE_READERS or all(n in self.host for n in reads):
            self.host.update(step.writes())
        self.steps.append(step)

    def _translate(self, node: ir.Node, name: str) -> Step | Offence:
        opset = self._opsets.get(node.domain)
        known = None if opset is None else registry.find(node.domain, node.op_type, opset)
        if known is None:
            return unknown(node, name, opset)
        inputs = _trimmed([None if v is None or not v.name else v.name for v in node.inputs])
        outputs = _trimmed([v.name or None for v in node.outputs])
        wrong = misfit(known, node, name, (inputs, outputs)) or self._unread(node, name, inputs)
        if wrong is not None:
            return wrong
        try:
            attributes = {a.name: attribute_value(a) for a in node.attributes.values()}
        except ValueError as error:
            return Offence(name, node.op_type, str(error))
        if known.counts_outputs:
            attributes["outputs"] = len(outputs)
        return Step(name, node.op_type, known.function, inputs, outputs, attributes, known.host)

    def _unread(self, node: ir.Node, name: str, inputs: Names) -> Offence | None:
        for read in inputs:
            if read is not None and read not in self._known:
                return Offence(name, node.op_type, f"reads {read!r}, which nothing before it makes")
            if read in self._unreadable:
                return Offence(name, node.op_type, f"reads {read!r}: {self._unreadable[read]}")
        if node.op_type == "Dropout" and len(inputs) > 2:
            training = self.tensors.get(str(inputs[2]))
            if training is not None and bool(training.any()):
                return Offence(name, node.op_type, "is in training mode", EVAL_MODE)
        return None

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


def _trimmed(names: list[str | None]) -> Names:
    while names and names[-1] is None:
        names.pop()
    return tuple(names)
