"""Scale and shift the output of a Conv or Gemm by changing its own weight and bias.

a (W x + c) + b = (a W) x + (a c + b)        a, b per output channel; W (O, I, ...), a, b (O,)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.passes.edit import constant, initializer, integer, real, set_input


def scale_layer(layer: ir.Node, factor: NDArray[Any], offset: NDArray[Any]) -> bool:
    """Fold `factor` and `offset` into `layer`; False when its parameters are not constants."""
    assert layer.graph is not None
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
    stem, graph = layer.outputs[0].name, layer.graph
    if not np.all(a == 1.0):
        scaled = (weight * a.reshape(column)).astype(np.float32)
        name = layer.inputs[1].name if layer.inputs[1] is not None else None
        set_input(layer, 1, initializer(graph, name or f"{stem}/weight", scaled))
    set_input(layer, 2, initializer(graph, f"{stem}/bias", (a * c + b).astype(np.float32)))
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
