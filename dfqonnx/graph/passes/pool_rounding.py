"""Averages whose size is rounded up (`ceil_mode`) become averages with explicit padding.

With n = in + begin + end cells, ceil_mode adds windows that hang over by h cells at the end, which
never count in a mean:

    h = ceil((n - k) / stride) stride + k - n          one window less where the last one would
                                                        begin behind the input

    h = 0                          AveragePool(x)         the same, rounded down
    no padding that counts         AveragePool(x, end + h, count_include_pad = 0)
    padding that counts            AveragePool(Pad(x), end = h, count_include_pad = 0)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.explicit_padding import get_kernel_shape
from dfqonnx.graph.passes.pass_result import Outcome, node_pass


@node_pass
def make_pool_rounding_explicit(node: ir.Node) -> Outcome:
    """Take `ceil_mode` away from every AveragePool whose image size is known."""
    if node.op_type != "AveragePool" or not node.attributes.get_int("ceil_mode", 0):
        return False
    image, kernel = edit.get_image_size(node.inputs[0]), get_kernel_shape(node)
    if image is None or kernel is None or "auto_pad" in node.attributes:
        return "its ceil_mode stays: the size of the image that it reads is open"
    rank = len(kernel)
    pads = list(node.attributes.get_ints("pads") or (0,) * 2 * rank)
    over = _measure_overhang(node, image, kernel, pads)
    counted = bool(node.attributes.get_int("count_include_pad", 0)) and any(pads)
    if any(over) and counted:
        _pad_before(node, pads)
        pads = [0] * 2 * rank
    if any(over):
        pads = pads[:rank] + [end + more for end, more in zip(pads[rank:], over, strict=True)]
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 0)
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    del node.attributes["ceil_mode"]
    return True


def _measure_overhang(
    node: ir.Node, image: tuple[int, ...], kernel: tuple[int, ...], pads: list[int]
) -> list[int]:
    """Return how many cells the last window has beyond the padded image, axis by axis."""
    rank = len(kernel)
    strides = node.attributes.get_ints("strides") or (1,) * rank
    dilations = node.attributes.get_ints("dilations") or (1,) * rank
    found = []
    for axis, size in enumerate(image):
        begin, end, stride = pads[axis], pads[axis + rank], strides[axis]
        window = (kernel[axis] - 1) * dilations[axis] + 1
        steps = -(-(size + begin + end - window) // stride)
        if steps * stride >= size + begin:
            steps -= 1
        found.append(max(0, steps * stride + window - (size + begin + end)))
    return found


def _pad_before(node: ir.Node, pads: list[int]) -> None:
    """Let the node read its input with explicit zeros around the image."""
    source, graph, rank = node.inputs[0], node.graph, len(pads) // 2
    assert source is not None
    assert graph is not None
    amounts = np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]], np.int64)
    name = f"{node.outputs[0].name}/padded"
    constant = edit.add_initializer(graph, f"{name}/pads", amounts)
    pad = ir.node("Pad", [source, constant], name=f"{node.name}/pad")
    shape = edit.get_shape(source)
    assert shape is not None
    image = edit.get_image_size(source)
    assert image is not None
    sizes = [
        size + before + behind
        for size, before, behind in zip(image, pads[:rank], pads[rank:], strict=True)
    ]
    edit.set_output(pad, name, source.type, (*shape[:2], *sizes))
    graph.insert_before(node, pad)
    node.replace_input_with(0, pad.outputs[0])
