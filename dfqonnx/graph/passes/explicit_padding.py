"""auto_pad becomes explicit pads; a constant Pad of zeros moves into the Conv or AveragePool.

SAME: out = ceil(in / stride), total = max((out - 1) stride + (kernel - 1) dilation + 1 - in, 0)
SAME_UPPER puts the odd one at the end, SAME_LOWER at the beginning.
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import (
    constant,
    dims,
    drop,
    integer,
    integers,
    set_input,
    spatial,
    text,
)


def make_pads_explicit(model: ir.Model) -> bool:
    """Replace auto_pad by pads wherever the image size is known."""
    changed = False
    for node in model.graph:
        if not has_trait(node.op_type, Trait.WINDOWED) or "auto_pad" not in node.attributes:
            continue
        mode = text(node, "auto_pad", "NOTSET")
        pads = _pads(node, mode)
        if pads is not None:
            del node.attributes["auto_pad"]
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)
            changed = True
    return changed


def _pads(node: ir.Node, mode: str) -> list[int] | None:
    image, kernel = spatial(node.inputs[0]), kernel_of(node)
    if image is None or kernel is None:
        return None
    rank = len(kernel)
    if mode == "NOTSET":
        return list(integers(node, "pads") or (0,) * 2 * rank)
    if mode == "VALID":
        return [0] * 2 * rank
    strides = integers(node, "strides") or (1,) * rank
    dilations = integers(node, "dilations") or (1,) * rank
    begin, end = [], []
    for size, k, stride, dilation in zip(image, kernel, strides, dilations, strict=True):
        out = -(-size // stride)
        total = max((out - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(large if mode == "SAME_LOWER" else small)
        end.append(small if mode == "SAME_LOWER" else large)
    return begin + end


def kernel_of(node: ir.Node) -> tuple[int, ...] | None:
    """Return the window of a Conv or pool."""
    given = integers(node, "kernel_shape")
    if given is not None or node.op_type != "Conv":
        return given
    shape = dims(node.inputs[1])
    return None if shape is None else tuple(d for d in shape[2:] if isinstance(d, int))


def fold_pads(model: ir.Model) -> bool:
    """Move zero padding of the image axes into every Conv or AveragePool that reads it."""
    changed = False
    for node in list(model.graph):
        pads = _zero_padding(node)
        if pads is None:
            continue
        out = node.outputs[0]
        for reader, index in out.uses():
            if index == 0 and _absorb(reader, pads):
                set_input(reader, 0, node.inputs[0])
                changed = True
        if not out.uses() and not out.is_graph_output():
            drop(node)
    return changed


def _zero_padding(node: ir.Node) -> list[int] | None:
    """Return begins and ends of the image axes when `node` pads them, and only them, with zeros."""
    if node.op_type != "Pad" or text(node, "mode", "constant") != "constant":
        return None
    shape, pads = dims(node.inputs[0]), constant(node.inputs[1])
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    value = constant(fill)
    if shape is None or pads is None or len(shape) < 3 or (fill is not None and value is None):
        return None
    if value is not None and value.any():
        return None
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
    rank = len(shape)
    listed = [int(a) % rank for a in axes] if axes is not None else list(range(rank))
    begin, end = [0] * rank, [0] * rank
    for place, axis in enumerate(listed):
        begin[axis], end[axis] = int(pads[place]), int(pads[place + len(listed)])
    if any(begin[:2] + end[:2]) or min(begin + end) < 0:
        return None
    return begin[2:] + end[2:]


def _absorb(reader: ir.Node, pads: list[int]) -> bool:
    if not has_trait(reader.op_type, Trait.ZERO_PADDED) or "auto_pad" in reader.attributes:
        return False
    own = list(integers(reader, "pads") or (0,) * len(pads))
    if reader.op_type == "AveragePool":
        if integer(reader, "ceil_mode", 0):
            return False
        if any(own) and not integer(reader, "count_include_pad", 0):
            return False
        kernel = integers(reader, "kernel_shape") or ()
        if any(a + b >= k for a, b, k in zip(own, pads, kernel * 2, strict=True)):
            return False  # runtimes refuse pads as large as the window
        reader.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    total = [a + b for a, b in zip(own, pads, strict=True)]
    reader.attributes["pads"] = ir.AttrInt64s("pads", total)
    return True
