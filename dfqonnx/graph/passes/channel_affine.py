"""Scale and shift the output of a Conv or Gemm by changing its own weight and bias.

a (W x + c) + b = (a W) x + (a c + b)        a, b per output channel; W (O, I, ...), a, b (O,)

A per-channel affine map as a depthwise 1x1 Conv, so that an integer runtime can run it.

    y[n, c, h, w] = a[c] x[n, c, h, w] + b[c]  =  Conv(x, W = a as (C, 1, 1, 1), b, group = C)

Features of shape (N, C) pass through (N, C, 1, 1). The Conv remembers what it replaces in its
metadata (`dfqonnx.origin`): it is quantized with 8 bits, since it has one weight per channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.model import ORIGIN
from dfqonnx.graph.passes.edit import (
    constant,
    dims,
    drop,
    initializer,
    integer,
    real,
    set_constant,
    take_over,
)


def scale_layer(layer: ir.Node, factor: NDArray[Any], offset: NDArray[Any]) -> bool:
    """Fold `factor` and `offset` into `layer`; False when its parameters are not constants."""
    axis = output_axis(layer)
    weight = constant(layer.inputs[1]) if axis is not None else None
    bias_value = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant(bias_value)
    if weight is None or axis is None or (bias_value is not None and bias is None):
        return False
    outputs = weight.shape[axis]
    if factor.size not in {1, outputs} or offset.size not in {1, outputs}:
        return False
    a = np.broadcast_to(np.asarray(factor, dtype=np.float64).reshape(-1), (outputs,))
    b = np.broadcast_to(np.asarray(offset, dtype=np.float64).reshape(-1), (outputs,))
    c = np.zeros(outputs) if bias is None else np.broadcast_to(bias.reshape(-1), (outputs,))
    column = [1] * weight.ndim
    column[axis] = outputs
    stem = layer.outputs[0].name
    if not np.all(a == 1.0):
        scaled = (weight * a.reshape(column)).astype(np.float32)
        set_constant(layer, 1, scaled, stem=f"{stem}/weight")
    set_constant(layer, 2, (a * c + b).astype(np.float32), stem=f"{stem}/bias")
    return True


def output_axis(layer: ir.Node) -> int | None:
    """Return the output-channel axis of a plain Conv or Gemm weight; None for anything else."""
    if layer.op_type == "Conv":
        return 0
    if layer.op_type != "Gemm" or integer(layer, "transA", 0):
        return None
    if real(layer, "alpha", 1.0) != 1.0 or real(layer, "beta", 1.0) != 1.0:
        return None
    return 0 if integer(layer, "transB", 0) else 1


def convert_to_depthwise(node: ir.Node, factor: NDArray[Any], offset: NDArray[Any]) -> bool:
    """Replace `node`, which reads its first input, by a depthwise Conv with `factor`, `offset`."""
    graph, source, shape = node.graph, node.inputs[0], dims(node.inputs[0])
    if graph is None or source is None or shape is None or len(shape) < 2:
        return False
    stem = str(node.outputs[0].name)
    flat = len(shape) == 2
    if flat:
        target = np.array([0, factor.size, 1, 1], dtype=np.int64)
        lift = ir.node("Reshape", [source, initializer(graph, f"{stem}/shape", target)])
        _describe(lift, f"{stem}/lifted", source, (shape[0], factor.size, 1, 1))
        graph.insert_before(node, lift)
        source = lift.outputs[0]
    ones = (1, 1) if flat else (1,) * (len(shape) - 2)
    weight = factor.astype(np.float32).reshape(-1, 1, *ones)  # (C, 1, 1, 1)
    last = conv = ir.node(
        "Conv",
        [
            source,
            initializer(graph, f"{stem}/weight", weight),
            initializer(graph, f"{stem}/bias", offset.astype(np.float32)),
        ],
        {"group": factor.size, "kernel_shape": list(ones)},
        name=node.name,
        metadata_props={**node.metadata_props, ORIGIN: node.op_type},
    )
    graph.insert_before(node, conv)
    if flat:
        _describe(conv, f"{stem}/mapped", source, (shape[0], factor.size, 1, 1))
        last = ir.node("Flatten", [conv.outputs[0]], {"axis": 1})
        graph.insert_before(node, last)
    take_over(node.outputs[0], last.outputs[0])
    drop(node)
    return True


def _describe(
    node: ir.Node, name: str, like: ir.Value, shape: tuple[int | str | None, ...]
) -> None:
    value = node.outputs[0]
    value.name, value.type, value.shape = name, like.type, ir.Shape(shape)
