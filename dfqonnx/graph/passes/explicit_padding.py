"""auto_pad becomes explicit pads; a constant Pad of zeros moves into the Conv or AveragePool.

SAME: out = ceil(in / stride), total = max((out - 1) stride + (kernel - 1) dilation + 1 - in, 0)
SAME_UPPER puts the odd one at the end, SAME_LOWER at the beginning.
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import Outcome, node_pass


@node_pass
def make_pads_explicit(node: ir.Node) -> Outcome:
    """Replace auto_pad by pads wherever the image size is known."""
    if not has_trait(node.op_type, Trait.WINDOWED) or "auto_pad" not in node.attributes:
        return False
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    pads = _compute_pads(node, mode)
    if pads is None:
        return f"its auto_pad ({mode}) stays: the size of the image that it reads is open"
    del node.attributes["auto_pad"]
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    return True


def _compute_pads(node: ir.Node, mode: str) -> list[int] | None:
    image, kernel = edit.get_image_size(node.inputs[0]), get_kernel_shape(node)
    if image is None or kernel is None:
        return None
    rank = len(kernel)
    if mode == "NOTSET":
        return list(node.attributes.get_ints("pads") or (0,) * 2 * rank)
    if mode == "VALID":
        return [0] * 2 * rank
    strides = node.attributes.get_ints("strides") or (1,) * rank
    dilations = node.attributes.get_ints("dilations") or (1,) * rank
    begin, end = [], []
    for size, k, stride, dilation in zip(image, kernel, strides, dilations, strict=True):
        out = -(-size // stride)
        total = max((out - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(large if mode == "SAME_LOWER" else small)
        end.append(small if mode == "SAME_LOWER" else large)
    return begin + end


def get_kernel_shape(node: ir.Node) -> tuple[int, ...] | None:
    """Return the window of a Conv or pool."""
    given = node.attributes.get_ints("kernel_shape")
    if given is not None or node.op_type != "Conv":
        return None if given is None else tuple(given)
    shape = edit.get_shape(node.inputs[1])
    return None if shape is None else tuple(d for d in shape[2:] if isinstance(d, int))


def covers_image(node: ir.Node) -> bool:
    """Tell whether a Conv or pool has one window, of the size of the image that it reads."""
    image = edit.get_image_size(node.inputs[0])
    return (
        image is not None
        and get_kernel_shape(node) == image
        and not any(node.attributes.get_ints("pads") or ())
        and "auto_pad" not in node.attributes
        and all(d == 1 for d in node.attributes.get_ints("dilations") or ())
        and not node.attributes.get_int("ceil_mode", 0)
    )


@node_pass
def fold_pads(node: ir.Node) -> Outcome:
    """Move zero padding of the image axes into every Conv or AveragePool that reads it."""
    if node.op_type != "Pad":
        return False
    readers = [
        reader
        for reader, index in node.outputs[0].uses()
        if index == 0 and has_trait(reader.op_type, Trait.ZERO_PADDED)
    ]
    pads = _match_zero_padding(node)
    if isinstance(pads, str):
        return pads if readers else False
    outcomes = [_absorb(reader, pads) for reader in readers]
    for reader, outcome in zip(readers, outcomes, strict=True):
        if outcome is True:
            edit.set_input(reader, 0, node.inputs[0])
    edit.remove_if_unread(node)
    return True in outcomes or next((o for o in outcomes if isinstance(o, str)), False)


def _match_zero_padding(node: ir.Node) -> list[int] | str:
    """Return begins and ends of the image axes when a Pad pads them, and only them, with zeros.

    For any other Pad it is a sentence that says what it does instead.
    """
    mode = node.attributes.get_string("mode", "constant")
    if mode != "constant":
        return f"it pads in mode {mode}, and a layer pads with zeros only"
    shape, pads = edit.get_shape(node.inputs[0]), edit.get_constant(node.inputs[1])
    fill, axes = (edit.get_constant_input(node, index) for index in (2, 3))
    if shape is None or pads is None or any(edit.is_computed(node, index) for index in (2, 3)):
        return "its padding is computed"
    if fill is not None and fill.any():
        return f"it pads with {float(fill.reshape(-1)[0]):g}, and a layer pads with zeros only"
    rank = len(shape)
    listed = [int(a) % rank for a in axes] if axes is not None else list(range(rank))
    begin, end = [0] * rank, [0] * rank
    for place, axis in enumerate(listed):
        begin[axis], end[axis] = int(pads[place]), int(pads[place + len(listed)])
    if rank < 3 or any(begin[:2] + end[:2]) or min(begin + end) < 0:
        return "it pads or crops more than the axes of the image"
    return begin[2:] + end[2:]


def _absorb(reader: ir.Node, pads: list[int]) -> Outcome:
    name = edit.describe_node(reader)
    if "auto_pad" in reader.attributes:
        return f"{name} behind it pads by auto_pad"
    before = list(reader.attributes.get_ints("pads") or (0,) * len(pads))
    if reader.op_type == "AveragePool":
        if reader.attributes.get_int("ceil_mode", 0):
            return f"{name} behind it rounds its size up (ceil_mode)"
        if any(before) and not reader.attributes.get_int("count_include_pad", 0):
            return f"{name} behind it leaves its own padding out of its means"
        kernel = get_kernel_shape(reader) or ()
        if any(a + b >= k for a, b, k in zip(before, pads, kernel * 2, strict=True)):
            return f"{name} behind it has a window that is not larger than the padding"
        reader.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    total = [a + b for a, b in zip(before, pads, strict=True)]
    reader.attributes["pads"] = ir.AttrInt64s("pads", total)
    return True
