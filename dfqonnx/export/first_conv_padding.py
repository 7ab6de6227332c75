"""Input channels of the first Conv, filled up to the multiple that the target's kernel wants.

One channel of real zeros on the codes, with zero weights, computes the same sums:

    Q -- Pad(codes, one channel of zero_point) -- DQ -- Conv(O, 4, k, k)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.targets.profile import ChannelPadding


def missing_channels(node: ir.Node, weight: tuple[int, ...], padding: ChannelPadding | None) -> int:
    """Return how many channels `node`, with a weight of that shape, would gain by."""
    grouped = node.attributes.get_int("group", 1) != 1
    if padding is None or node.op_type != "Conv" or len(weight) != 4 or grouped:
        return 0
    return -weight[1] % padding.multiple if weight[0] >= padding.min_outputs else 0


def pad_codes(editor: GraphEditor, node: ir.Node, channels: int) -> bool:
    """Add `channels` zero channels to the codes that only `node` reads; False where it cannot."""
    real = node.inputs[0]
    dequantize = None if real is None else real.producer()
    if real is None or dequantize is None or dequantize.op_type != "DequantizeLinear":
        return False
    if len(real.uses()) != 1 or real.is_graph_output() or _behind_transpose(dequantize):
        return False
    codes, _, zero = dequantize.inputs
    assert codes is not None
    assert zero is not None
    amounts = editor.constant(np.array([0, 0, 0, 0, 0, channels, 0, 0], np.int64))
    pad = editor.node("Pad", [codes, amounts, zero])
    editor.graph.insert_before(dequantize, pad)
    dequantize.replace_input_with(0, pad.outputs[0])
    return True


def _behind_transpose(dequantize: ir.Node) -> bool:
    """Tell whether the codes come from a Transpose, as where a network reads images as NHWC.

    ONNX Runtime then pads pixel by pixel: 0.5 ms for 224 x 224, where the Conv gains 0.13.
    """
    node: ir.Node | None = dequantize
    for _ in range(4):  # QuantizeLinear, Transpose, and a Clip between codes
        source = None if node is None or not node.inputs else node.inputs[0]
        node = None if source is None else source.producer()
        if node is not None and node.op_type == "Transpose":
            return True
    return False


def pad_weight(
    codes: NDArray[np.int8 | np.uint8], channels: int, zero_point: int
) -> NDArray[np.int8 | np.uint8]:
    """Return (O, I, H, W) codes with `channels` input channels of real zeros appended."""
    ends = ((0, 0), (0, channels), (0, 0), (0, 0))
    return np.pad(codes, ends, constant_values=zero_point)
