"""Weights: integer codes in the file, one scale per output channel.

    packed      INT4 initializer -> Cast(INT8) -> DequantizeLinear(axis)      two codes a byte
    else        INT8 initializer               -> DequantizeLinear(axis)

Where the target has unsigned weights the types are UINT4 and UINT8. The codes keep the
initializer's name.

Biases: int32 on the grid of the accumulator, `s_x * s_w[c]`.

The integer kernel adds the bias to the sum of products before it rescales, so the bias has exactly
that scale, `float32(s_x * s_w[c])`; ONNX Runtime ignores a scale that is 1 % off without saying so,
and does not fuse one that is further off, or one for the whole tensor.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.core.quantization_plan import WeightParameters, WeightQuantizer
from dfqonnx.errors import InternalError
from dfqonnx.export.graph_editor import GraphEditor


def insert_weight(
    editor: GraphEditor,
    quantizer: WeightQuantizer,
    params: WeightParameters,
    node: ir.Node,
    *,
    pack: bool,
) -> None:
    """Let `node` read its weight from integer codes."""
    value, nodes = editor.codes(params.codes, pack=pack, name=quantizer.weight)
    scale = editor.constant(params.scale.astype(np.float32))
    zeros = np.full(len(params.scale), quantizer.grid.zero_point, params.codes.dtype)
    axis = {"axis": quantizer.axis}
    inputs = [value, scale, editor.constant(zeros)]
    nodes.append(editor.node("DequantizeLinear", inputs, attributes=axis))
    editor.graph.insert_before(node, nodes)
    node.replace_input_with(1, nodes[-1].outputs[0])


def check_weight(quantizer: WeightQuantizer, params: WeightParameters, node: ir.Node) -> None:
    """Hold `params` against the grid and the weight of `node`; a misfit is an InternalError."""
    weight, codes, scales = node.inputs[1], params.codes, params.scale.shape
    grid, axis = quantizer.grid, quantizer.axis
    shape = None if weight is None or weight.shape is None else tuple(weight.shape)
    if codes.shape != shape or scales != codes.shape[axis : axis + 1]:
        raise InternalError(
            f"node {quantizer.node!r}: codes {codes.shape} and scales {scales} do not fit the"
            f" weight {shape} on axis {axis}; please report it"
        )
    if codes.min() < grid.lo or codes.max() > grid.hi or not np.all(params.scale > 0):
        raise InternalError(
            f"node {quantizer.node!r}: codes {codes.min()}..{codes.max()}, grid {grid.lo}.."
            f"{grid.hi}, smallest scale {params.scale.min()}; please report it"
        )


def insert_bias(
    editor: GraphEditor,
    quantizer: WeightQuantizer,
    params: WeightParameters,
    node: ir.Node,
    *,
    input_scale: float,
) -> None:
    """Let `node` read its bias from int32 codes."""
    if params.bias is None:
        return
    if quantizer.bias is None or params.bias.shape != params.scale.shape:
        raise InternalError(
            f"node {quantizer.node!r}: bias codes {params.bias.shape} do not fit bias"
            f" {quantizer.bias!r} with {len(params.scale)} channels; please report it"
        )
    scale = (np.float32(input_scale) * params.scale.astype(np.float32)).astype(np.float32)
    codes = editor.constant(params.bias.astype(np.int32), name=quantizer.bias)
    zero = editor.constant(np.zeros(len(scale), np.int32))
    inputs = [codes, editor.constant(scale), zero]
    real = editor.node("DequantizeLinear", inputs, attributes={"axis": 0})
    editor.graph.insert_before(node, real)
    node.replace_input_with(2, real.outputs[0])
