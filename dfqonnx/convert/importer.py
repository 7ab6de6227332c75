"""From the nodes of an ONNX graph to a program: operator calls, constants, and offenses.

A node that fits no operator that is known here becomes an offense with the reason and advice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

import dfqonnx.convert.ops as _ops  # noqa: F401  (registers the operators)
from dfqonnx.convert import op_registry as registry
from dfqonnx.convert.program import OpCall, Program
from dfqonnx.convert.tensors import attribute_value, to_tensor
from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.trainable_region import select_training_outputs

Names = tuple[str | None, ...]
EVAL_MODE = "export the model in eval mode (torch: model.eval())"


def explain_unknown(node: ir.Node, name: str, opset: int | None) -> Offense:
    """Return why there is no operator for the node."""
    op = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if node.domain not in ("", "ai.onnx"):
        reason = f"domain {node.domain} is not supported"
        return Offense(name, op, reason, "export with operators of the domain ai.onnx only")
    if opset is None:
        return Offense(name, op, "the model imports no ai.onnx opset", "re-export the model")
    since = registry.since_version("", node.op_type, opset)
    if since is None:
        return Offense(name, op, f"opset {opset} has no such operator", "re-export the model")
    others = registry.versions(node.op_type)
    if others:
        listed = ", ".join(str(version) for version in others)
        reason = f"version {since} is not supported (known: {listed})"
        return Offense(name, op, reason, "convert the model to opset 21")
    advice = "leave it out of the exported part of the model"
    return Offense(name, op, "this operator is not supported", advice)


def explain_misfit(
    known: registry.Operator, node: ir.Node, name: str, ends: tuple[Names, Names]
) -> Offense | None:
    """Return why the node does not fit the operator, or None; `ends` are its inputs and outputs."""
    inputs, outputs = ends
    given = set(node.attributes)
    reason = None
    if extra := sorted(given - known.attributes):
        reason = f"attribute {extra[0]} is not supported"
    elif missing := sorted(known.required - given):
        reason = f"attribute {missing[0]} is missing"
    elif len(inputs) < known.least or None in inputs[: known.least]:
        reason = f"has {len(inputs)} inputs, but needs {known.least}"
    elif known.most is not None and len(inputs) > known.most:
        reason = f"has {len(inputs)} inputs, but only {known.most} are supported"
    if reason is not None:
        return Offense(name, node.op_type, reason, "re-export with a current exporter")
    if wrong := _find_wrong_choice(known, node):
        return Offense(name, node.op_type, wrong[0], wrong[1])
    if len(outputs) > 1 and not known.counts_outputs:
        reason = f"has {len(outputs)} outputs, but only the first is supported"
        return Offense(name, node.op_type, reason, EVAL_MODE)
    return None


def _find_wrong_choice(known: registry.Operator, node: ir.Node) -> tuple[str, str] | None:
    for attribute, allowed in known.choices.items():
        value: Any = node.attributes[attribute].value if attribute in node.attributes else None
        if value is None or value in allowed:
            continue
        if attribute == "training_mode":
            return "is in training mode", EVAL_MODE
        listed = ", ".join(str(choice) for choice in allowed)
        return f"attribute {attribute} is {value!r}; supported: {listed}", "re-export the model"
    return None


class Importer:
    """The parts of a program, collected from a graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.tensors: dict[str, Tensor] = {}  # constants by name, folded ones included
        self.steps: list[OpCall] = []  # the calls that are left for run time
        self.host: set[str] = set()  # values that come from shapes alone
        self.offenses: list[Offense] = []  # every node that cannot be translated, and why
        self._opsets = graph.opset_imports
        self._unreadable: dict[str, str] = {}
        self._known = {*_list_inputs(graph), *graph.initializers}
        for name, value in graph.initializers.items():
            self._add_constant(name, value.const_value)
        for index, node in enumerate(graph):
            self._add_node(node, _get_name(node, index))

    def _add_constant(self, name: str, value: ir.TensorProtocol | None) -> None:
        if value is None:
            self._unreadable[name] = "has no data"
            return
        try:
            self.tensors[name] = to_tensor(value)
        except ValueError as error:
            self._unreadable[name] = str(error)

    def _add_node(self, node: ir.Node, name: str) -> None:
        """Add a node: fold it, or add a call, or record an offense."""
        step = self._translate(node, name)
        self._known.update(str(value.name) for value in node.outputs)
        if isinstance(step, Offense):
            self.offenses.append(step)
            return
        reads = [n for n in step.reads() if n not in self.tensors]
        if not reads:
            self._fold(step)
            return
        if step.op in {"Shape", "Size"} or all(n in self.host for n in reads):
            self.host.update(step.writes())
        self.steps.append(step)

    def _translate(self, node: ir.Node, name: str) -> OpCall | Offense:
        opset = self._opsets.get(node.domain)
        known = None if opset is None else registry.find(node.domain, node.op_type, opset)
        if known is None:
            return explain_unknown(node, name, opset)
        inputs = _trim([None if v is None or not v.name else v.name for v in node.inputs])
        outputs = _trim([v.name or None for v in node.outputs])
        wrong = explain_misfit(known, node, name, (inputs, outputs)) or self._check_inputs(
            node, name, inputs
        )
        if wrong is not None:
            return wrong
        try:
            attributes = {a.name: attribute_value(a) for a in node.attributes.values()}
        except ValueError as error:
            return Offense(name, node.op_type, str(error))
        if known.counts_outputs:
            attributes["outputs"] = len(outputs)
        return OpCall(
            node=name,
            op=node.op_type,
            function=known.function,
            inputs=inputs,
            outputs=outputs,
            attributes=attributes,
            host=known.host,
        )

    def _check_inputs(self, node: ir.Node, name: str, inputs: Names) -> Offense | None:
        for read in inputs:
            if read is not None and read not in self._known:
                return Offense(name, node.op_type, f"reads {read!r}, which nothing before it makes")
            if read in self._unreadable:
                return Offense(name, node.op_type, f"reads {read!r}: {self._unreadable[read]}")
        if node.op_type == "Dropout" and len(inputs) > 2:
            training = self.tensors.get(str(inputs[2]))
            if training is not None and bool(training.any()):
                return Offense(name, node.op_type, "is in training mode", EVAL_MODE)
        return None

    @torch.no_grad()
    def _fold(self, step: OpCall) -> None:
        try:
            results = step.evaluate(None if n is None else self.tensors[n] for n in step.inputs)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = f"its constant inputs cannot be evaluated: {str(error).splitlines()[0]}"
            self.offenses.append(Offense(step.node, step.op, reason))
            return
        named = zip(step.outputs, results, strict=True)
        self.tensors.update({name: tensor for name, tensor in named if name is not None})


def _trim(names: list[str | None]) -> Names:
    while names and names[-1] is None:
        names.pop()
    return tuple(names)


def to_program(model: NormalizedModel) -> Program:
    """Translate what leads to the targets of a normalized model; see `program_from_ir`."""
    unsupported = frozenset(model.unsupported)
    return program_from_ir(model.ir, targets=model.training_outputs, unsupported=unsupported)


def truncate_at_unsupported(model: NormalizedModel) -> NormalizedModel:
    """Return the model with its targets moved in front of the nodes that cannot be translated.

    UnsupportedModel names them where nothing that could be quantized stands before them.
    """
    offenses = Importer(model.ir.graph).offenses
    if not offenses:
        return model
    return select_training_outputs(model, {o.node: o.reason for o in offenses})


def program_from_ir(
    model: ir.Model,
    *,
    logits: str | None = None,
    targets: tuple[str, ...] = (),
    unsupported: frozenset[str] = frozenset(),
) -> Program:
    """Translate an onnx_ir model; its targets are its outputs unless named, or one of them.

    Nodes named `unsupported`, and what cannot be translated and leads to no target, are left out;
    UnsupportedModel names every node that cannot be translated and leads to one.
    """
    graph = model.graph
    outputs = tuple(str(value.name) for value in graph.outputs)
    targets = targets or ((logits,) if logits else outputs)
    importer = Importer(graph)
    needed = _collect_ancestors(graph, targets)
    offenses = [o for o in importer.offenses if o.node in needed]
    if offenses:
        what = "1 node" if len(offenses) == 1 else f"{len(offenses)} nodes"
        raise UnsupportedModel(f"{what} cannot be translated", offenses)
    bad = {*unsupported, *(o.node for o in importer.offenses)}
    behind = _collect_values_behind(graph, bad)
    whole = [name for name in outputs if name not in behind]
    needed |= _collect_ancestors(graph, whole)
    return Program(
        inputs=_list_inputs(graph),
        outputs=tuple(whole),
        logits=targets[0],
        training_outputs=targets,
        steps=tuple(step for step in importer.steps if step.node in needed),
        tensors=importer.tensors,
        host=frozenset(importer.host),
    )


def _list_inputs(graph: ir.Graph) -> tuple[str, ...]:
    return tuple(str(v.name) for v in graph.inputs if v.name not in graph.initializers)


def _get_name(node: ir.Node, index: int) -> str:
    return node.name or f"{node.op_type}_{index}"


def _collect_ancestors(graph: ir.Graph, values: Iterable[str]) -> set[str]:
    """Return the names of the nodes that `values` are computed from."""
    found, wanted = set(), set(values)
    for index, node in reversed(list(enumerate(graph))):
        if any(str(value.name) in wanted for value in node.outputs):
            found.add(_get_name(node, index))
            wanted.update(str(value.name) for value in node.inputs if value is not None)
    return found


def _collect_values_behind(graph: ir.Graph, names: set[str]) -> set[str]:
    """Return the values that some of the nodes `names` lead to."""
    found: set[str] = set()
    for index, node in enumerate(graph):
        reads = any(value is not None and str(value.name) in found for value in node.inputs)
        if reads or _get_name(node, index) in names:
            found.update(str(value.name) for value in node.outputs)
    return found
