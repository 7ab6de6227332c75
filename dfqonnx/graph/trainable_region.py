"""Where the trained part of a network ends, and what is compared there.

    x -- Conv -- Conv -+- Conv -- [a] -- Reshape -- Softmax -- TopK -- y
                       +- Conv -- [b] -- NonMaxSuppression -- z

A node is *opaque* when dfqonnx cannot compute it, or when it takes decisions that no gradient
passes (TopK, NonMaxSuppression ...). A value is *blind* when an opaque node stands before it.
Layers that read blind values stay in float; what follows an opaque node is carried through.

From every output of the graph we walk back to the nearest real values that are not blind. They are
the *targets*, the tensors that distillation matches; of a final Softmax its input is taken. Values
that no quantized layer leads to are equal in teacher and student, so they are none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.model import BATCH, NormalizedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.channel_affine import output_axis
from dfqonnx.graph.passes.edit import constant, dims

_DECIDES = "it takes decisions that no gradient passes"
_ADVICE = "export the part in front of it, or replace it by operators that dfqonnx knows"


@dataclass(frozen=True)
class Reachability:
    """What can be computed.

    Attributes:
        opaque: reason by opaque node.
        blind: value -> the opaque node before it.
        touched: values that some quantized layer leads to.
        layers: layers that can be quantized.
        lost: layers that cannot, with the opaque node before them.
    """

    opaque: Mapping[ir.Node, str]
    blind: Mapping[ir.Value, ir.Node]
    touched: frozenset[ir.Value]
    layers: frozenset[ir.Node]
    lost: Mapping[ir.Node, ir.Node]


def select_training_outputs(
    model: NormalizedModel, opaque: Mapping[str, str] | None = None
) -> NormalizedModel:
    """Return the model with its targets, given the names and reasons of further opaque nodes.

    Raises:
        UnsupportedModel: no layer is left that could be quantized; names the nodes in the way.
    """
    reasons = {**model.unsupported, **(opaque or {})}
    graph = model.ir.graph
    scene = find_reachability(graph, reasons)
    if not scene.layers:
        raise UnsupportedModel(
            "nothing of this model can be quantized:",
            [Offense(str(n.name), n.op_type, r, _ADVICE) for n, r in _in_the_way(scene)],
        )
    found: dict[ir.Value, None] = {}
    seen: set[ir.Value] = set()
    waiting = list(graph.outputs)[::-1]
    while waiting:
        value = waiting.pop()
        if value in seen or value not in scene.touched:
            continue
        seen.add(value)
        if value not in scene.blind and value.dtype == ir.DataType.FLOAT:
            found[logits_of(value)] = None
        elif (node := value.producer()) is not None:
            waiting += [i for i in node.inputs if i is not None][::-1]
    targets = tuple(str(value.name) for value in _classes_first(found))
    left = {str(n.name): r for n, r in scene.opaque.items()}
    left |= {str(n.name): _behind(before) for n, before in scene.lost.items()}
    return dataclasses.replace(model, training_outputs=targets, logits=targets[0], unsupported=left)


def find_reachability(graph: ir.Graph, reasons: Mapping[str, str]) -> Reachability:
    """Return what of a graph, its nodes in topological order, can be computed."""
    opaque: dict[ir.Node, str] = {}
    blind: dict[ir.Value, ir.Node] = {}
    touched: set[ir.Value] = set()
    layers: set[ir.Node] = set()
    lost: dict[ir.Node, ir.Node] = {}
    for node in graph:
        given = [i for i in node.inputs if i is not None]
        before = next((blind[i] for i in given if i in blind), None)
        reason = reasons.get(str(node.name))
        decides = has_trait(node.op_type, Trait.DECISION | Trait.RANDOM) and any(
            i in touched for i in given
        )
        if before is None and (reason is not None or decides):
            opaque[node] = reason or _DECIDES
            before = node
        if before is not None:
            blind |= dict.fromkeys(node.outputs, before)
            if is_layer(node):
                lost[node] = before
        elif is_layer(node):
            layers.add(node)
        if node in layers or any(i in touched for i in given):
            touched.update(node.outputs)
    return Reachability(opaque, blind, frozenset(touched), frozenset(layers), lost)


def is_layer(node: ir.Node) -> bool:
    """Tell whether the node multiplies by a constant weight in a way that integers can."""
    if not has_trait(node.op_type, Trait.LAYER):
        return False
    weight = constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or constant(node.inputs[0]) is not None or weight.ndim < 2:
        return False
    row = constant(bias)
    if bias is not None and row is None:
        return False
    return node.op_type != "Gemm" or (output_axis(node) == 0 and row is not None and row.ndim == 1)


def logits_of(output: ir.Value) -> ir.Value:
    """Return the input of a final Softmax, reshapes in between skipped; else the output."""
    value = output
    while (node := value.producer()) is not None and node.inputs[0] is not None:
        if has_trait(node.op_type, Trait.SOFTMAX):
            return _by_image(node.inputs[0]) or output
        if not has_trait(node.op_type, Trait.ROW_MAJOR):
            break
        value = node.inputs[0]
    return output


def _by_image(value: ir.Value) -> ir.Value | None:
    """Return the value, in front of reshapes if need be, whose first axis counts images."""
    while (shape := dims(value)) is None or not shape or shape[0] != BATCH:
        node = value.producer()
        if node is None or not has_trait(node.op_type, Trait.ROW_MAJOR) or node.inputs[0] is None:
            return None
        value = node.inputs[0]
    return value


def _classes_first(values: Iterable[ir.Value]) -> list[ir.Value]:
    """Class scores (N, K) lead, if there are any; else the order of the outputs."""

    def other(value: ir.Value) -> bool:
        shape = dims(value)
        return shape is None or len(shape) != 2 or shape[1] == 1

    return sorted(values, key=other)


def _behind(node: ir.Node) -> str:
    return f"it stands behind {node.name} ({node.op_type}), which dfqonnx does not compute"


def _in_the_way(scene: Reachability) -> list[tuple[ir.Node, str]]:
    first = dict.fromkeys(scene.lost.values())
    return [(node, scene.opaque[node]) for node in first or scene.opaque]
