"""Shapes of a quantized graph, whatever domains and types its quantized operators have.

Inference runs on a copy without numbers in which all that is quantized is replaced by what it
stands for: QuantizeLinear and DequantizeLinear by Identity, QLinearConv by Conv, every number by a
float32. Free sizes of inputs count as 224 and batches as 1: a share of multiply-adds hardly depends
on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import NodeProto, TensorProto, helper

from dfqonnx.graph.op_traits import Trait, has_trait

_FREE_SIZE = 224
_SMALL = 2**10  # numbers of a constant that may be a shape, which inference needs
_WHOLE = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL})
_CODES = frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16})


def infer_shapes(proto: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of every value that inference finds; sizes still free are None."""
    graph = onnx.GraphProto(name="shapes")
    graph.node.extend(_plain(node) for node in proto.graph.node)
    stored = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name not in stored:
            graph.input.append(_fixed(value))
    for tensor in proto.graph.initializer:
        whole = tensor.data_type in _WHOLE and tensor.data_location != TensorProto.EXTERNAL
        if whole and math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        kind = tensor.data_type if tensor.data_type in _WHOLE else TensorProto.FLOAT
        graph.input.append(helper.make_tensor_value_info(tensor.name, kind, tensor.dims))
    model = helper.make_model(graph, ir_version=proto.ir_version)
    del model.opset_import[:]
    model.opset_import.extend(proto.opset_import)
    try:
        made = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        made = graph
    return {
        value.name: tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)
        for value in (*made.input, *made.value_info, *made.output)
        if value.type.tensor_type.HasField("shape")
    }


def _fixed(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Return an input with a size for every free axis, and floats for codes."""
    fixed = onnx.ValueInfoProto()
    fixed.CopyFrom(value)
    kind = fixed.type.tensor_type
    if kind.elem_type in _CODES:
        kind.elem_type = TensorProto.FLOAT
    for index, size in enumerate(kind.shape.dim):
        if index == 0 or size.dim_value <= 0:
            size.dim_value = 1 if index == 0 else _FREE_SIZE
    return fixed


def _plain(node: NodeProto) -> NodeProto:
    """Return the operator of floats that a node stands for; the node itself for most."""
    op, inputs = node.op_type, list(node.input)
    if has_trait(op, Trait.CODES) or (op == "Cast" and _casts_codes(node)):
        return helper.make_node("Identity", inputs[:1], node.output[:1])
    if op == "QLinearConcat":
        return _as(node, "Concat", inputs[2::3])
    if op.startswith("QLinear"):
        standard = op.removeprefix("QLinear")
        two = has_trait(standard, Trait.WEIGHTED | Trait.COMMUTATIVE)
        return _as(node, standard, [*inputs[:1], *inputs[3:4]] if two else inputs[:1])
    if op == "QGemm":
        return _as(node, "Gemm", [*inputs[:1], *inputs[3:4]])
    return node


def _as(node: NodeProto, op: str, inputs: Sequence[str]) -> NodeProto:
    made = helper.make_node(op, inputs, node.output)
    made.attribute.extend(each for each in node.attribute if each.name != "channels_last")
    return made


def _casts_codes(node: NodeProto) -> bool:
    return any(each.name == "to" and each.i in _CODES for each in node.attribute)
