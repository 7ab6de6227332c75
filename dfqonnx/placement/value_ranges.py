"""Which values can never be negative, by the operators that make them.

Relu, Clip(lo >= 0), Sigmoid, Softmax, Exp, Abs ...        never negative
sums, products, Concat, pools, reshapes                    when none of their inputs is
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant, get_input
from dfqonnx.graph.passes.merge_clips import get_clip_bounds


def non_negative_values(graph: ir.Graph, *, input_signed: bool) -> set[ir.Value]:
    """Return every value that is provably 0 or above."""
    found: set[ir.Value] = set() if input_signed else set(graph.inputs)

    def sure(value: ir.Value | None) -> bool:
        array = get_constant(value)
        return value in found or (array is not None and bool((array >= 0).all()))

    for node in graph:
        op, limits = node.op_type, get_clip_bounds(node) if node.op_type == "Clip" else None
        if (
            has_trait(op, Trait.NON_NEGATIVE)
            or (limits is not None and limits[0] >= 0)
            or (has_trait(op, Trait.NON_NEGATIVE_IF_FIRST) and sure(node.inputs[0]))
            or (has_trait(op, Trait.NON_NEGATIVE_IF_ALL) and all(map(sure, node.inputs)))
            or (op == "Resize" and _stays_in_range(node) and sure(node.inputs[0]))
            or (op == "Pad" and sure(node.inputs[0]) and (not _fills(node) or sure(node.inputs[2])))
        ):
            found.update(node.outputs)
    return found


def _fills(pad: ir.Node) -> bool:
    """Tell whether a Pad adds a number of its own that is not the default, 0."""
    constant_mode = pad.attributes.get_string("mode", "constant") == "constant"
    return constant_mode and get_input(pad, 2) is not None


def _stays_in_range(resize: ir.Node) -> bool:
    """Nearest and linear resizing stay within the range of the input, cubic does not."""
    return resize.attributes.get_string("mode", "nearest") != "cubic"
