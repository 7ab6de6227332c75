"""A model as a list of steps over torch tensors: what `Net` and the student are built from.

Steps whose inputs are all constants are computed here, once. One tensor per initializer: a shared
one stays shared.

A value is on the *host* when it comes from shapes alone (Shape, and arithmetic on its result). Host
values live on the CPU whatever the device, so that a computed Reshape needs no synchronisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir
from torch import Tensor

from dfqonnx.convert.reader import Reader
from dfqonnx.convert.step import Step
from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.cut import cut
from dfqonnx.graph.model import Model

__all__ = ["Program", "Step", "narrow", "program_from_ir", "to_program"]


@dataclass(frozen=True)
class Program:
    """A whole model.

    Attributes:
        inputs: names of the values fed at run time.
        outputs: names of the model's outputs.
        logits: the first of the values that distillation compares.
        targets: all of them.
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
    targets: tuple[str, ...] = ()

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
    """Translate what leads to the targets of a normalised model.

    Raises:
        UnsupportedModel: naming every node that cannot be translated.
    """
    return program_from_ir(model.ir, targets=model.targets, opaque=frozenset(model.opaque))


def narrow(model: Model) -> Model:
    """Return the model with its targets moved in front of the nodes that cannot be translated.

    Raises:
        UnsupportedModel: nothing that could be quantized stands before them; names them.
    """
    offences = _read(model.ir).offences
    if not offences:
        return model
    return cut(model, {o.node: o.reason for o in offences})


def program_from_ir(
    model: ir.Model,
    *,
    logits: str | None = None,
    targets: tuple[str, ...] = (),
    opaque: frozenset[str] = frozenset(),
) -> Program:
    """Translate an onnx_ir model; its targets are its outputs unless named, or one of them.

    Nodes named `opaque`, and what cannot be translated and leads to no target, are left out.

    Raises:
        UnsupportedModel: naming every node that cannot be translated.
    """
    graph = model.graph
    outputs = tuple(str(value.name) for value in graph.outputs)
    targets = targets or ((logits,) if logits else outputs)
    reader = _read(model)
    needed = _leading_to(graph, targets)
    offences = [o for o in reader.offences if o.node in needed]
    if offences:
        count = len(offences)
        what = "node" if count == 1 else "nodes"
        raise UnsupportedModel(f"{count} {what} cannot be translated", offences)
    bad = {*opaque, *(o.node for o in reader.offences)}
    whole = [name for name in outputs if not bad & _leading_to(graph, (name,))]
    needed |= _leading_to(graph, whole)
    return Program(
        inputs=_inputs(graph),
        outputs=tuple(whole),
        logits=targets[0],
        targets=targets,
        steps=tuple(step for step in reader.steps if step.node in needed),
        tensors=reader.tensors,
        host=frozenset(reader.host),
    )


def _inputs(graph: ir.Graph) -> tuple[str, ...]:
    return tuple(str(v.name) for v in graph.inputs if v.name not in graph.initializers)


def _read(model: ir.Model) -> Reader:
    graph = model.graph
    reader = Reader(dict(graph.opset_imports))
    for name in _inputs(graph):
        reader.feed(name)
    for name, value in graph.initializers.items():
        reader.constant(name, value)
    for index, node in enumerate(graph):
        reader.node(node, name=_name(node, index))
    return reader


def _name(node: ir.Node, index: int) -> str:
    return node.name or f"{node.op_type}_{index}"


def _leading_to(graph: ir.Graph, values: Iterable[str]) -> set[str]:
    """Return the names of the nodes that `values` are computed from."""
    found, wanted = set(), set(values)
    for index, node in reversed(list(enumerate(graph))):
        if any(str(value.name) in wanted for value in node.outputs):
            found.add(_name(node, index))
            wanted.update(str(value.name) for value in node.inputs if value is not None)
    return found
