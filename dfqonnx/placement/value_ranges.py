"""Which values can never be negative, by the operators that make them.

Relu, Clip(lo >= 0), Sigmoid, Softmax, Exp, Abs ...        never negative
sums, products, Concat, pools, reshapes                    when none of their inputs is
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.graph.passes.edit import constant
from dfqonnx.graph.passes.merge_clips import bounds

_ALWAYS = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Sqrt", "Softplus"})
_FIRST_ONLY = frozenset(
    {
        *(
            "MaxPool",
            "AveragePool",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "ReduceMax",
            "ReduceMean",
        ),
        *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather"),
        *("DepthToSpace", "SpaceToDepth", "Identity", "Expand", "Tile", "Pad", "LeakyRelu"),
    }
)
_ALL = frozenset({"Add", "Mul", "Concat", "Max", "Min", "Div", "Sum"})


def non_negative_values(graph: ir.Graph, *, input_signed: bool) -> set[ir.Value]:
    """Return every value that is provably 0 or above."""
    found: set[ir.Value] = set() if input_signed else set(graph.inputs)

    def sure(value: ir.Value | None) -> bool:
        array = constant(value)
        return value in found or (array is not None and bool((array >= 0).all()))

    for node in graph:
        limits = bounds(node) if node.op_type == "Clip" else None
        if (
            node.op_type in _ALWAYS
            or (limits is not None and limits[0] >= 0)
            or (node.op_type in _FIRST_ONLY and sure(node.inputs[0]))
            or (node.op_type in _ALL and all(sure(i) for i in node.inputs))
            or (node.op_type == "Resize" and _interpolates(node) and sure(node.inputs[0]))
        ):
            found.update(node.outputs)
    return found


def _interpolates(node: ir.Node) -> bool:
    """Nearest and linear resizing stay within the range of the input, cubic does not."""
    mode = node.attributes.get("mode")
    return mode is None or mode.as_string() in {"nearest", "linear"}
