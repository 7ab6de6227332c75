"""A model as a list of steps over torch tensors: what `Net` and the student are built from.

Steps whose inputs are all constants are computed here, once. One tensor per initializer: a shared
one stays shared.

A value is on the *host* when it comes from shapes alone (Shape, and arithmetic on its result). Host
values live on the CPU whatever the device, so that a computed Reshape needs no synchronisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
from torch import Tensor

from dfqonnx.convert.reader import Reader
from dfqonnx.convert.step import Step
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.model import Model

__all__ = ["Program", "Step", "program_from_ir", "to_program"]


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
            KeyError: no such node, or a folded one.
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
    reader = Reader(dict(graph.opset_imports))
    inputs = tuple(str(v.name) for v in graph.inputs if v.name not in graph.initializers)
    for name in inputs:
        reader.feed(name)
    for name, value in graph.initializers.items():
        reader.constant(name, value)
    for index, node in enumerate(graph):
        reader.node(node, name=node.name or f"{node.op_type}_{index}")
    if reader.offences:
        count = len(reader.offences)
        what = "node" if count == 1 else "nodes"
        raise UnsupportedModel(f"{count} {what} cannot be translated", reader.offences)
    outputs = tuple(str(value.name) for value in graph.outputs)
    return Program(
        inputs=inputs,
        outputs=outputs,
        logits=logits or outputs[0],
        steps=tuple(reader.steps),
        tensors=reader.tensors,
        host=frozenset(reader.host),
    )
