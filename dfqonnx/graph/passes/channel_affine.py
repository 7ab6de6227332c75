"""Per-channel affine maps, y = a x + b, as part of a layer or as a layer of their own.

Folded into the Conv or Gemm before it, by changing that layer's own weight and bias:

    a (W x + c) + b = (a W) x + (a c + b)        a, b per output channel; W (O, I, ...), a, b (O,)

As a depthwise 1x1 Conv, so that an integer runtime can run it:

    y[n, c, h, w] = a[c] x[n, c, h, w] + b[c]  =  Conv(x, W = a as (C, 1, 1, 1), b, group = C)

Features of shape (N, C) pass through (N, C, 1, 1). The Conv remembers in its metadata
(`dfqonnx.origin`) what it replaces: it is quantized with 8 bits, since it has one weight a channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.model import ORIGIN
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import Outcome


def fold_into_layer(
    node: ir.Node, source: ir.Value, factor: NDArray[Any], offset: NDArray[Any]
) -> Outcome:
    """Fold a node that maps `source` to `factor` * `source` + `offset` into the layer before it."""
    layer = source.producer()
    if layer is None or (axis := get_output_axis(layer)) is None:
        return False
    if edit.get_only_consumer(source) is not node:
        if factor.size == offset.size == 1:  # as in x * sigmoid(x + 3): no bias of the layer
            return False
        return f"the output of {edit.describe_node(layer)} before it has other readers"
    weight, bias = edit.get_constant(layer.inputs[1]), edit.get_constant_input(layer, 2)
    if weight is None or edit.is_computed(layer, 2):
        return f"the weight or bias of {edit.describe_node(layer)} before it is computed"
    outputs = weight.shape[axis]
    if factor.size not in {1, outputs} or offset.size not in {1, outputs}:
        return False
    a, b = (
        np.broadcast_to(np.asarray(v, dtype=np.float64).reshape(-1), (outputs,))
        for v in (factor, offset)
    )
    c = np.zeros(outputs) if bias is None else np.broadcast_to(bias.reshape(-1), (outputs,))
    column = [1] * weight.ndim
    column[axis] = outputs
    stem = layer.outputs[0].name
    if not np.all(a == 1.0):
        scaled = (weight * a.reshape(column)).astype(np.float32)
        edit.set_constant(layer, 1, scaled, stem=f"{stem}/weight")
    edit.set_constant(layer, 2, (a * c + b).astype(np.float32), stem=f"{stem}/bias")
    edit.replace_value(node.outputs[0], layer.outputs[0])
    edit.remove_node(node)
    return True


def get_output_axis(layer: ir.Node) -> int | None:
    """Return the output-channel axis of a plain Conv or Gemm weight; None for anything else."""
    if layer.op_type == "Conv":
        return 0
    if layer.op_type != "Gemm" or layer.attributes.get_int("transA"):
        return None
    if any(layer.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    return 0 if layer.attributes.get_int("transB", 0) else 1


def convert_to_depthwise(node: ir.Node, factor: NDArray[Any], offset: NDArray[Any]) -> bool:
    """Replace `node`, which reads its first input, by a depthwise Conv with `factor`, `offset`."""
    graph, source, shape = node.graph, node.inputs[0], edit.get_shape(node.inputs[0])
    if graph is None or source is None or shape is None or len(shape) < 2:
        return False
    stem, channels = str(node.outputs[0].name), factor.size
    flat, kind = len(shape) == 2, source.type
    new: list[ir.Node] = []
    if flat:
        target = np.array([0, channels, 1, 1], dtype=np.int64)
        inputs = [source, edit.add_initializer(graph, f"{stem}/shape", target)]
        new.append(ir.node("Reshape", inputs))
        source = new[0].outputs[0]
        edit.set_output(new[0], f"{stem}/lifted", kind, (shape[0], channels, 1, 1))
    ones = (1, 1) if flat else (1,) * (len(shape) - 2)
    weight = factor.astype(np.float32).reshape(-1, 1, *ones)  # (C, 1, 1, 1)
    constants = [
        edit.add_initializer(graph, f"{stem}/weight", weight),
        edit.add_initializer(graph, f"{stem}/bias", offset.astype(np.float32)),
    ]
    attributes: edit.Attributes = {"group": channels, "kernel_shape": ones}
    conv = edit.derive_node(node, "Conv", [source, *constants], attributes)
    conv.metadata_props[ORIGIN] = node.op_type
    new.append(conv)
    if flat:
        edit.set_output(conv, f"{stem}/mapped", kind, (shape[0], channels, 1, 1))
        new.append(ir.node("Flatten", [conv.outputs[0]], {"axis": 1}))
    edit.replace_node(node, *new)
    return True
