"""Remove nodes that hand their input on, and merge reshapes.

Identity(x) = Dropout(x) = Cast(x, type of x) = Pad(x, 0 ... 0) = Concat(x) = x   (inference)
x * 1 = x / 1 = x + 0 = x - 0 = x                                 where x keeps its shape

Reshape, Flatten, Squeeze and Unsqueeze keep the row-major order of elements, so a chain of them is
decided by its first input and its last shape:   Flatten when that is (N, K), else Reshape. One that
leaves the shape as it is does nothing.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import PassResult, node_pass, rewrite_nodes


@node_pass
def remove_identities(node: ir.Node) -> bool:
    """Remove every node that does nothing at inference."""
    return _does_nothing(node) and edit.bypass_node(node)


def _does_nothing(node: ir.Node) -> bool:
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return False
    match node.op_type:
        case "Identity":
            return True
        case "Dropout":
            return not any(o.uses() or o.is_graph_output() for o in node.outputs[1:])
        case "Cast":
            return source.dtype == node.attributes.get_int("to", 0)
        case "Concat":
            return len(node.inputs) == 1
        case "Pad":
            pads = edit.get_constant(node.inputs[1])
            return pads is not None and not pads.any()
        case "Reshape":
            return _keeps_shape(node)
        case "Mul" | "Div":
            return _has_neutral_operand(node, 1.0)
        case "Add" | "Sub":
            return _has_neutral_operand(node, 0.0)
        case _:
            return False


def _has_neutral_operand(node: ir.Node, neutral: float) -> bool:
    """Tell whether the second operand is one number that changes nothing; puts it there."""
    if edit.get_constant(node.inputs[0]) is not None and has_trait(node.op_type, Trait.COMMUTATIVE):
        first, second = node.inputs
        node.replace_input_with(0, second)
        node.replace_input_with(1, first)
    array, shape = edit.get_constant_input(node, 1), edit.get_shape(node.inputs[0])
    if array is None or shape is None or array.dtype.kind != "f" or array.size != 1:
        return False
    return array.ndim <= len(shape) and float(array.reshape(-1)[0]) == neutral


def _keeps_shape(node: ir.Node) -> bool:
    shape = edit.get_shape(node.inputs[0])
    return shape is not None and None not in shape and shape == edit.get_shape(node.outputs[0])


def merge_reshapes(model: ir.Model) -> PassResult:
    """Merge chains of reshapes and remove those without effect."""
    return rewrite_nodes(model, _merge, _remove)


def _remove(node: ir.Node) -> bool:
    reshapes = has_trait(node.op_type, Trait.ROW_MAJOR)
    return reshapes and _keeps_shape(node) and edit.bypass_node(node)


def _merge(node: ir.Node) -> bool:
    """Let a reshape behind another one read what that one reads."""
    before = edit.get_producer(node)
    if before is None or node.graph is None:
        return False
    if not all(has_trait(n.op_type, Trait.ROW_MAJOR) for n in (node, before)):
        return False
    source, target = before.inputs[0], edit.get_shape(node.outputs[0])
    shape = edit.get_shape(source)
    if source is None or not shape or not target:
        return False
    if shape == target:
        edit.set_input(node, 0, source)
    elif shape[0] != target[0] or any(not isinstance(d, int) for d in target[1:]):
        return False
    else:
        if len(target) == 2:
            new = ir.node("Flatten", [source], {"axis": 1}, name=node.name)
        else:
            sizes = np.array([0, *target[1:]], dtype=np.int64)
            value = edit.add_initializer(node.graph, f"{node.outputs[0].name}/shape", sizes)
            new = ir.node("Reshape", [source, value], name=node.name)
        edit.replace_node(node, new)
    edit.remove_if_unread(before)
    return True
