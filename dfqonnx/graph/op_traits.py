"""graph/op_traits.py."""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.graph.passes.channel_affine import output_axis
from dfqonnx.graph.passes.edit import constant

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


def is_layer(node: ir.Node) -> bool:
    """Tell whether the node multiplies by a constant weight in a way that integers can."""
    if node.op_type not in _LAYERS:
        return False
    weight = constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or constant(node.inputs[0]) is not None or weight.ndim < 2:
        return False
    row = constant(bias)
    if bias is not None and row is None:
        return False
    return node.op_type != "Gemm" or (output_axis(node) == 0 and row is not None and row.ndim == 1)
