"""Experimental operators that ONNX has removed, rewritten with standard ones.

    ImageScaler(x; s, b)              = s x + b[c]
    Affine(x; a, b)                   = a x + b
    Scale(x; s)                       = s x
    ScaledTanh(x; a, b)               = a tanh(b x)
    ParametricSoftplus(x; a, b)       = a log(exp(b x) + 1)
    Crop(x; [left, top, right, bottom])          = x[:, :, top : H - bottom, left : W - right]
    Crop(x; [left, top, ...], scale [h, w])      = x[:, :, top : top + h, left : left + w]

Source: ONNX's documentation of experimental operators, release 1.2. ONNX Runtime computes them
still; other runtimes and the ONNX checker know none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from dfqonnx.graph.passes.opset_upgrade import STANDARD_DOMAINS, get_opset

Attributes = Mapping[str, Any]
Step = tuple[str, list[NDArray[Any]], Attributes]  # operator, its constant operands, attributes


def replace_deprecated_ops(proto: onnx.ModelProto) -> None:
    """Rewrite every such node of `proto` in place."""
    if not any(map(_is_deprecated, proto.graph.node)):
        return
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(proto.graph.node):
        nodes += _rewrite(proto, node, index) if _is_deprecated(node) else [node]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def _is_deprecated(node: onnx.NodeProto) -> bool:
    return node.op_type in _STEPS and node.domain in STANDARD_DOMAINS and len(node.input) == 1


def _rewrite(proto: onnx.ModelProto, node: onnx.NodeProto, index: int) -> list[onnx.NodeProto]:
    """Return the nodes that stand for a deprecated one; the last one makes its output."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    stem, value = node.name or f"{node.op_type}_{index}", node.input[0]
    nodes: list[onnx.NodeProto] = []
    steps = _STEPS[node.op_type](given, get_opset(proto)) or [("Identity", [], {})]
    for op, arrays, attributes in steps:
        inputs = [value]
        for array in arrays:
            inputs.append(f"{stem}/constant_{len(proto.graph.initializer)}")
            proto.graph.initializer.append(numpy_helper.from_array(array, inputs[-1]))
        value = f"{stem}/{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [value], name=value, **attributes))
    nodes[-1].output[0] = node.output[0]
    return nodes


def _multiply(factor: float) -> list[Step]:
    return [] if factor == 1.0 else [("Mul", [np.array([factor], np.float32)], {})]


def _add(summand: Any, shape: tuple[int, ...] = (1,)) -> list[Step]:
    array = np.asarray(summand, np.float32)
    return [("Add", [array.reshape(shape)], {})] if array.any() else []


def _scale_both_sides(given: Attributes, op: str) -> list[Step]:
    before, behind = (_multiply(given.get(name, 1.0)) for name in ("beta", "alpha"))
    return [*before, (op, [], {}), *behind]


def _crop(given: Attributes, opset: int) -> list[Step]:
    left, top, right, bottom = (int(b) for b in given.get("border", (0, 0, 0, 0)))
    size, end = given.get("scale"), 2**31 - 1
    ends = [-bottom if bottom else end, -right if right else end]
    if size:
        ends = [top + int(size[0]), left + int(size[1])]
    if opset < 10:
        return [("Slice", [], {"axes": [2, 3], "starts": [top, left], "ends": ends})]
    return [("Slice", [np.array(part, np.int64) for part in ([top, left], ends, [2, 3])], {})]


_STEPS: Mapping[str, Callable[[Attributes, int], list[Step]]] = {
    "ImageScaler": lambda a, _: [
        *_multiply(a.get("scale", 1.0)),
        *_add(a.get("bias", 0.0), (1, -1, 1, 1)),
    ],
    "Affine": lambda a, _: [*_multiply(a.get("alpha", 1.0)), *_add(a.get("beta", 0.0))],
    "Scale": lambda a, _: _multiply(a.get("scale", 1.0)),
    "ScaledTanh": lambda a, _: _scale_both_sides(a, "Tanh"),
    "ParametricSoftplus": lambda a, _: _scale_both_sides(a, "Softplus"),
    "Crop": _crop,
}
