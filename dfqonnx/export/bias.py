"""Biases: int32 on the grid of the accumulator, `s_x * s_w[c]`.

The integer kernel adds the bias to the sum of products before it rescales, so the bias has exactly
that scale, `float32(s_x * s_w[c])`; ONNX Runtime ignores a scale that is 1 % off without saying so,
and does not fuse one that is further off, or one for the whole tensor.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.errors import InternalError
from dfqonnx.export.surgery import Surgery
from dfqonnx.spec.sites import WeightParams, WeightSite


def insert_bias(
    surgery: Surgery,
    site: WeightSite,
    params: WeightParams,
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
