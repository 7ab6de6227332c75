"""Weights: integer codes in the file, one scale per output channel.

    up to 4 bits   INT4 initializer -> Cast(INT8) -> DequantizeLinear(axis)      two codes a byte
    5 to 8 bits    INT8 initializer               -> DequantizeLinear(axis)

The Cast folds when ONNX Runtime loads the file (1.23 and later), after which both rows are the same
graph. An INT4 DequantizeLinear without the Cast never reaches an integer kernel, and UINT8 weights
run at half the speed. Codes keep the initializer's name.

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

PACKED_BITS = 4


def packs(site: WeightQuantizer, storage: str) -> bool:
    """Tell whether the codes of `site` are stored as INT4."""
    return storage == "auto" and site.grid.bits <= PACKED_BITS


def insert_weight(
    surgery: GraphEditor,
    site: WeightQuantizer,
    params: WeightParameters,
    node: ir.Node,
    *,
    pack: bool,
) -> None:
    """Let `node` read its weight from integer codes."""
    value, nodes = surgery.codes(params.codes, pack=pack, name=site.weight)
    scale = surgery.constant(params.scale.astype(np.float32))
    zero = surgery.constant(np.zeros(len(params.scale), np.int8))
    axis = {"axis": site.axis}
    nodes.append(surgery.node("DequantizeLinear", [value, scale, zero], attributes=axis))
    surgery.graph.insert_before(node, nodes)
    node.replace_input_with(1, nodes[-1].outputs[0])


def check_weight(site: WeightQuantizer, params: WeightParameters, node: ir.Node) -> None:
    """Hold `params` against the grid and the float weight of `node`.

    Raises:
        InternalError: they do not fit.
    """
    weight, codes = node.inputs[1], params.codes
    shape = None if weight is None or weight.shape is None else tuple(weight.shape)
    if codes.shape != shape or params.scale.shape != codes.shape[site.axis : site.axis + 1]:
        raise InternalError(
            f"node {site.node!r}: codes {codes.shape} and scales {params.scale.shape} do not fit"
            f" the weight {shape} on axis {site.axis}; please report it"
        )
    if codes.min() < site.grid.lo or codes.max() > site.grid.hi or not np.all(params.scale > 0):
        raise InternalError(
            f"node {site.node!r}: codes {codes.min()}..{codes.max()}, grid {site.grid.lo}.."
            f"{site.grid.hi}, smallest scale {params.scale.min()}; please report it"
        )


def insert_bias(
    surgery: GraphEditor,
    site: WeightQuantizer,
    params: WeightParameters,
    node: ir.Node,
    *,
    input_scale: float,
) -> None:
    """Let `node` read its bias from int32 codes."""
    if params.bias is None:
        return
    if site.bias is None or params.bias.shape != params.scale.shape:
        raise InternalError(
            f"node {site.node!r}: bias codes {params.bias.shape} do not fit bias {site.bias!r} with"
            f" {len(params.scale)} channels; please report it"
        )
    scale = (np.float32(input_scale) * params.scale.astype(np.float32)).astype(np.float32)
    codes = surgery.constant(params.bias.astype(np.int32), name=site.bias)
    zero = surgery.constant(np.zeros(len(scale), np.int32))
    inputs = [codes, surgery.constant(scale), zero]
    real = surgery.node("DequantizeLinear", inputs, attributes={"axis": 0})
    surgery.graph.insert_before(node, real)
    node.replace_input_with(2, real.outputs[0])
