"""Input channels of the first Conv, filled up to a multiple of four.

ONNX Runtime's fast signed-weight kernel takes input channels in fours; the usual three colors fall
back to one that ran 1.2 to 1.6 times longer (3x3 and 7x7 stems with 16 to 64 outputs). One channel
of real zeros on the uint8 codes, with zero weights, computes the same sums:

    Q -- Pad(uint8, one channel of zero_point) -- DQ -- Conv(O, 4, k, k)

Below 16 output channels that kernel is not used and nothing is gained, so nothing is done.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.export.graph_editor import GraphEditor

_STEP, _FEWEST_OUTPUTS = 4, 16


def missing_channels(node: ir.Node, weight: tuple[int, ...]) -> int:
    """Return how many channels `node`, with a weight of that shape, would gain by."""
    group = node.attributes.get("group")
    grouped = group is not None and group.as_int() != 1
    if node.op_type != "Conv" or len(weight) != 4 or grouped or weight[0] < _FEWEST_OUTPUTS:
        return 0
    return -weight[1] % _STEP


def pad_codes(surgery: GraphEditor, node: ir.Node, channels: int) -> bool:
    """Add `channels` zero channels to the codes that only `node` reads; False where it cannot."""
    real = node.inputs[0]
    dequantize = None if real is None else real.producer()
    if real is None or dequantize is None or dequantize.op_type != "DequantizeLinear":
        return False
    if len(real.uses()) != 1 or real.is_graph_output():
        return False
    codes, _, zero = dequantize.inputs
    assert codes is not None
    assert zero is not None
    amounts = surgery.constant(np.array([0, 0, 0, 0, 0, channels, 0, 0], np.int64))
    pad = surgery.node("Pad", [codes, amounts, zero])
    surgery.graph.insert_before(dequantize, pad)
    dequantize.replace_input_with(0, pad.outputs[0])
    return True


def pad_weight(codes: NDArray[np.int8], channels: int) -> NDArray[np.int8]:
    """Return (O, I, H, W) codes with `channels` zero input channels appended."""
    return np.pad(codes, ((0, 0), (0, channels), (0, 0), (0, 0)))
