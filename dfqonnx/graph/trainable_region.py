"""Where the trained part of a network ends, and what distillation compares there.

    x -- Conv -- Conv -+- Conv -- [a] -- Reshape -- Softmax -- TopK -- y
                       +- Conv -- [b] -- NonMaxSuppression -- z

A node is *unsupported* when dfqonnx cannot compute it, or when it takes decisions that no gradient
passes (TopK, NonMaxSuppression ...). Layers that read a value behind an unsupported node stay in
float; what follows an unsupported node is carried through unchanged.

From every output of the graph we walk back to the nearest real values without an unsupported node
before them, whose first axis counts images. They are the *training outputs*, the tensors that
distillation compares; of a final Softmax its input is taken. Values that no quantized layer leads
to are equal in teacher and student, so they are none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.model import BATCH, NormalizedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.channel_affine import get_output_axis
from dfqonnx.graph.passes.edit import get_constant_input, get_shape, is_computed

_DECIDES = "it takes decisions that no gradient passes"
_ADVICE = "export the part in front of it, or replace it by operators that dfqonnx knows"


@dataclass(frozen=True, kw_only=True)
class Reachability:
    """What can be computed."""

    unsupported: Mapping[ir.Node, str]  # reason by unsupported node
    after_unsupported: Mapping[ir.Value, ir.Node]  # value -> the unsupported node before it
    after_layers: frozenset[ir.Value]  # values that some quantized layer leads to
    layers: frozenset[ir.Node]  # layers that can be quantized
    # layers that cannot, with the unsupported node before them
    float_layers: Mapping[ir.Node, ir.Node]


def select_training_outputs(
    model: NormalizedModel, unsupported: Mapping[str, str] | None = None
) -> NormalizedModel:
    """Return the model with its training outputs; `unsupported` has further nodes and reasons.

    UnsupportedModel names the nodes in the way where no layer is left that could be quantized.
    """
    graph = model.ir.graph
    reachable = find_reachability(graph, {**model.unsupported, **(unsupported or {})})
    if not reachable.layers:
        nodes = dict.fromkeys(reachable.float_layers.values()) or reachable.unsupported
        offenses = [
            Offense(str(node.name), node.op_type, reachable.unsupported[node], _ADVICE)
            for node in nodes
        ] or [
            Offense(str(node.name), node.op_type, explain_no_layer(node) or "")
            for node in graph
            if has_trait(node.op_type, Trait.LAYER)
        ]
        raise UnsupportedModel("nothing of this model can be quantized:", offenses)
    found: dict[ir.Value, None] = {}
    seen: set[ir.Value] = set()
    waiting = list(graph.outputs)[::-1]
    while waiting:
        value = waiting.pop()
        if value in seen or value not in reachable.after_layers:
            continue
        seen.add(value)
        is_known = value not in reachable.after_unsupported and value.dtype == ir.DataType.FLOAT
        if is_known and (_counts_images(value) or value.producer() in reachable.layers):
            found[find_logits(value)] = None
        elif (node := value.producer()) is not None:
            waiting += [i for i in node.inputs if i is not None][::-1]
    outputs = tuple(str(value.name) for value in _sort_class_scores_first(found))
    reasons = {str(n.name): reason for n, reason in reachable.unsupported.items()}
    for layer, before in reachable.float_layers.items():
        if layer is before:
            continue
        reasons[str(layer.name)] = (
            f"it stands behind {before.name} ({before.op_type}), which dfqonnx does not compute"
        )
    return dataclasses.replace(
        model, training_outputs=outputs, logits=outputs[0], unsupported=reasons
    )


def find_reachability(graph: ir.Graph, reasons: Mapping[str, str]) -> Reachability:
    """Return what of a graph can be computed; `reasons` says why a node, by name, cannot."""
    unsupported: dict[ir.Node, str] = {}
    after_unsupported: dict[ir.Value, ir.Node] = {}
    after_layers: set[ir.Value] = set()
    layers: set[ir.Node] = set()
    float_layers: dict[ir.Node, ir.Node] = {}
    for node in graph:
        given = [i for i in node.inputs if i is not None]
        before = next((after_unsupported[i] for i in given if i in after_unsupported), None)
        reason = reasons.get(str(node.name))
        follows_layer = any(i in after_layers for i in given)
        decides = follows_layer and has_trait(node.op_type, Trait.DECISION | Trait.RANDOM)
        if before is None and (reason is not None or decides):
            unsupported[node] = reason or _DECIDES
            before = node
        if before is not None:
            after_unsupported |= dict.fromkeys(node.outputs, before)
            if is_layer(node):
                float_layers[node] = before
        elif is_layer(node):
            layers.add(node)
        if node in layers or follows_layer:
            after_layers.update(node.outputs)
    return Reachability(
        unsupported=unsupported,
        after_unsupported=after_unsupported,
        after_layers=frozenset(after_layers),
        layers=frozenset(layers),
        float_layers=float_layers,
    )


def is_layer(node: ir.Node) -> bool:
    """Tell whether the node multiplies by a constant weight in a way that integers can."""
    return has_trait(node.op_type, Trait.LAYER) and explain_no_layer(node) is None


def explain_no_layer(node: ir.Node) -> str | None:
    """Return why integers cannot compute a Conv, Gemm or MatMul; None where they can."""
    weight, bias = get_constant_input(node, 1), get_constant_input(node, 2)
    if get_constant_input(node, 0) is not None:
        return "its first operand is a constant; only the second one can be a weight"
    if weight is None:
        return "its weight is computed, not a constant"
    if is_computed(node, 2):
        return "its bias is computed, not a constant"
    if node.op_type == "MatMul" and weight.ndim != 2:
        return f"its weight has {weight.ndim} axes; only a matrix gets one scale per column"
    if node.op_type == "Gemm" and get_output_axis(node) != 0:
        return "it transposes or scales what it reads in a way that could not be simplified"
    if node.op_type == "Gemm" and (bias is None or bias.ndim != 1):
        return "its bias is not one number per output"
    return None


def find_logits(output: ir.Value) -> ir.Value:
    """Return the input of a final Softmax, reshapes in between skipped; else the output."""
    value = output
    while (node := value.producer()) is not None and (source := node.inputs[0]) is not None:
        if has_trait(node.op_type, Trait.SOFTMAX):
            return _find_with_batch_axis(source) or output
        if not has_trait(node.op_type, Trait.ROW_MAJOR):
            break
        value = source
    return output


def _find_with_batch_axis(value: ir.Value) -> ir.Value | None:
    """Return the value, in front of reshapes if need be, whose first axis counts images."""
    while (shape := get_shape(value)) is None or not shape or shape[0] != BATCH:
        node = value.producer()
        if node is None or not has_trait(node.op_type, Trait.ROW_MAJOR) or node.inputs[0] is None:
            return None
        value = node.inputs[0]
    return value


def _counts_images(value: ir.Value) -> bool:
    """Tell whether the first axis counts images: not where their boxes are rows of one matrix.

    Nodes that make such rows (Reshape, Concat, decoding) are no layers, so nothing is lost in front
    of them.
    """
    shape = get_shape(value)
    return not shape or shape[0] == BATCH


def _sort_class_scores_first(values: Iterable[ir.Value]) -> list[ir.Value]:
    """Class scores (N, K) lead, if there are any; else the order of the outputs."""

    def is_other(value: ir.Value) -> bool:
        shape = get_shape(value)
        return shape is None or len(shape) != 2 or shape[1] == 1 or shape[0] != BATCH

    return sorted(values, key=is_other)
