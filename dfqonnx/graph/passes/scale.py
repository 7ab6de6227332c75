"""Scale and shift the output of a Conv or Gemm by changing its own weight and bias.

a (W x + c) + b = (a W) x + (a c + b)        a, b per output channel; W (O, I, ...), a, b (O,)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.passes.edit import constant, integer, real, set_constant


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
