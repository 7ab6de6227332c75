"""Weights: integer codes in the file, one scale per output channel.

    packed      INT4 initializer -> Cast(INT8) -> DequantizeLinear(axis)      two codes a byte
    else        INT8 initializer               -> DequantizeLinear(axis)

Where the target has unsigned weights the types are UINT4 and UINT8; INT2 where it has that; one
scale for all channels is a single number, without an axis. The codes keep the initializer's name.

Biases: int32 on the grid of the accumulator, `s_x * s_w[c]`.

The integer kernel adds the bias to the sum of products before it rescales, so the bias has exactly
that scale, `float32(s_x * s_w[c])`; ONNX Runtime ignores a scale that is 1 % off without saying so,
and does not fuse one that is further off, or one for the whole tensor. Some targets take none but
float biases.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.core.quantization_plan import WeightParameters, WeightQuantizer
from dfqonnx.errors import InternalError
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.targets.profile import Packing


def insert_weight(
    editor: GraphEditor,
    quantizer: WeightQuantizer,
    params: WeightParameters,
    node: ir.Node,
    *,
    packing: Packing | None,
) -> None:
    """Let `node` read its weight from integer codes."""
    value, nodes = editor.codes(params.codes, packing=packing, name=quantizer.weight)
    scales = params.scale.astype(np.float32)
    zeros = np.full(len(scales), quantizer.grid.zero_point, params.codes.dtype)
    axis = {"axis": quantizer.axis} if quantizer.per_channel else None
    inputs = [value, editor.constant(scales if axis else scales[0])]
    inputs += write_zero_points(editor, zeros if axis else zeros[0], op=quantizer.op)
    nodes.append(editor.node("DequantizeLinear", inputs, attributes=axis))
    editor.graph.insert_before(node, nodes)
    node.replace_input_with(1, nodes[-1].outputs[0])


def write_zero_points(
    editor: GraphEditor, zeros: NDArray[np.generic] | np.generic, *, op: str
) -> list[ir.Value]:
    """Return the last input of a DequantizeLinear; none where 0 goes without saying for `op`."""
    if op in editor.target.zero_points_left_out and not np.any(zeros):
        return []
    return [editor.constant(zeros)]


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
    """Let `node` read its bias from int32 codes, or as float."""
    if params.bias is None:
        return
    if quantizer.bias is None or params.bias.shape != params.scale.shape:
        raise InternalError(
            f"node {quantizer.node!r}: bias codes {params.bias.shape} do not fit bias"
            f" {quantizer.bias!r} with {len(params.scale)} channels; please report it"
        )
    if quantizer.float_bias:
        real = editor.constant(params.bias.astype(np.float32), name=quantizer.bias)
        node.replace_input_with(2, real)
        return
    scale = (np.float32(input_scale) * params.scale.astype(np.float32)).astype(np.float32)
    codes = editor.own_codes(params.bias.astype(np.int32), name=quantizer.bias)
    axis = {"axis": 0} if quantizer.per_channel else None
    zeros = write_zero_points(
        editor, np.zeros(len(scale) if axis else (), np.int32), op=quantizer.op
    )
    inputs = [codes, editor.constant(scale if axis else scale[0]), *zeros]
    made = editor.node("DequantizeLinear", inputs, attributes=axis)
    editor.graph.insert_before(node, made)
    node.replace_input_with(2, made.outputs[0])
