"""A number that is multiplied or added in front of a layer moves into the layer.

W (m x) = (m W) x                                 for any padding: padded zeros stay zeros
W (x + a) + c = W x + (c + a sum_i W[:, i])       without padding
W (m x + a) + c = (m W) (x + a / m) + c           for any padding

Such numbers stand behind activations (learned scales of an activation, an input's normalization),
where there is no layer before them that could take them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.channel_affine import get_output_axis
from dfqonnx.graph.passes.pass_result import Outcome, node_pass


@node_pass
def fold_scalars(node: ir.Node) -> Outcome:
    """Fold the scalar operation that a Conv or Gemm alone reads."""
    axis, before = get_output_axis(node), edit.get_producer(node)
    weight, bias = edit.get_constant_input(node, 1), edit.get_constant_input(node, 2)
    if axis is None or before is None or weight is None or edit.is_computed(node, 2):
        return False
    if edit.get_only_consumer(before.outputs[0]) is not node:
        return False
    found = _match(before)
    if found is None:
        return False
    source, factor, offset = found
    if offset and (any(node.attributes.get_ints("pads") or ()) or "auto_pad" in node.attributes):
        split = _split_off_factor(before, source, offset)
        if split is None:
            return f"{edit.describe_node(before)} adds a number that its padding does not have"
        scaled = (weight * split).astype(np.float32)
        edit.set_constant(node, 1, scaled, stem=f"{node.outputs[0].name}/weight")
        return True
    stem = str(node.outputs[0].name)
    if offset:
        others = tuple(each for each in range(weight.ndim) if each != axis)
        sums = weight.astype(np.float64).sum(axis=others) * offset
        total = sums if bias is None else bias.reshape(-1) + sums
        edit.set_constant(node, 2, total.astype(np.float32), stem=f"{stem}/bias")
    if factor != 1.0:
        edit.set_constant(node, 1, (weight * factor).astype(np.float32), stem=f"{stem}/weight")
    edit.set_input(node, 0, source)
    edit.remove_unread(before.outputs)
    return True


def _split_off_factor(addition: ir.Node, source: ir.Value, offset: float) -> float | None:
    """Turn m x + a into x + a / m, and return m; None without such a factor."""
    product, graph = source.producer(), addition.graph
    found = None if product is None else _match(product)
    if graph is None or found is None or found[2] or not found[1] or found[1] == 1.0:
        return None
    if edit.get_only_consumer(source) is not addition:
        return None
    x, factor, _ = found
    number = np.array(offset / factor, np.float32)
    constant = edit.add_initializer(graph, f"{addition.outputs[0].name}/number", number)
    edit.replace_node(addition, edit.derive_node(addition, "Add", [x, constant]))
    edit.remove_unread([source])
    return factor


@node_pass
def unify_numbers(node: ir.Node) -> Outcome:
    """Write Sub and Div by a number as Add and Mul, which runtimes have integer kernels for."""
    differs = node.op_type == "Sub" or node.op_type == "Div"
    if not differs or node.graph is None or edit.is_computed(node, 1):
        return False
    found = _match(node)
    if found is None:
        return False
    source, factor, offset = found
    number = np.array(factor if node.op_type == "Div" else offset, np.float32)
    constant = edit.add_initializer(node.graph, f"{node.outputs[0].name}/number", number)
    new = edit.derive_node(node, "Mul" if node.op_type == "Div" else "Add", [source, constant])
    edit.replace_node(node, new)
    return True


def _match(node: ir.Node) -> tuple[ir.Value, float, float] | None:
    """Return the operand, factor and offset of an operation with one number."""
    if not has_trait(node.op_type, Trait.AFFINE) or len(node.inputs) != 2:
        return None
    second = edit.get_constant_input(node, 1)
    array = edit.get_constant_input(node, 0) if second is None else second
    source = node.inputs[1 if second is None else 0]
    same = edit.get_shape(source) == edit.get_shape(node.outputs[0])
    if array is None or array.size != 1 or source is None or not same:
        return None
    number = float(array.reshape(-1)[0])
    match node.op_type:
        case "Mul":
            return source, number, 0.0
        case "Add":
            return source, 1.0, number
        case "Sub" if second is not None:
            return source, 1.0, -number
        case "Div" if second is not None and number != 0:
            return source, 1 / number, 0.0
    return None
