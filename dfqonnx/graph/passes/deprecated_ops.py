"""Operators that ONNX tried in its first versions and took back, written with those it has.

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

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Nodes = list[onnx.NodeProto]


def replace_deprecated_ops(proto: onnx.ModelProto) -> bool:
    """Rewrite every such node of `proto` in place."""
    graph = proto.graph
    if not any(_is_legacy(node) for node in graph.node):
        return False
    version = next((o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}), 1)
    nodes: Nodes = []
    for index, node in enumerate(graph.node):
        nodes += _Writer(graph, node, index, version).write() if _is_legacy(node) else [node]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def _is_legacy(node: onnx.NodeProto) -> bool:
    return node.op_type in _FORMS and node.domain in {"", "ai.onnx"} and len(node.input) == 1


class _Writer:
    """Writes one node anew."""

    def __init__(
        self, graph: onnx.GraphProto, node: onnx.NodeProto, index: int, version: int
    ) -> None:
        self.graph, self.node, self.version = graph, node, version
        self.stem = node.name or f"{node.op_type}_{index}"
        self.given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.nodes: Nodes = []

    def write(self) -> Nodes:
        """Return the nodes that stand for it; the last one makes its output."""
        value = self.node.input[0]
        for step in _FORMS[self.node.op_type]:
            value = step(self, value)
        if not self.nodes:
            value = self.add("Identity", [value])
        self.nodes[-1].output[0] = self.node.output[0]
        return self.nodes

    def number(self, name: str, default: float) -> float:
        """Return an attribute."""
        return float(self.given.get(name, default))

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return its output."""
        name = f"{self.stem}/{len(self.nodes)}"
        node = helper.make_node(op, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def constant(self, array: Any) -> str:
        """Add a constant and return its name."""
        name = f"{self.stem}/constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name


Step = Callable[[_Writer, str], str]


def _times(name: str, default: float) -> Step:
    def step(writer: _Writer, value: str) -> str:
        factor = writer.number(name, default)
        if factor == 1.0:
            return value
        return writer.add("Mul", [value, writer.constant(np.float32(factor).reshape(1))])

    return step


def _plus(name: str, *, channels: bool = False) -> Step:
    def step(writer: _Writer, value: str) -> str:
        given = np.asarray(writer.given.get(name, 0.0), np.float32)
        if not given.any():
            return value
        shape = (1, -1, 1, 1) if channels else (1,)
        return writer.add("Add", [value, writer.constant(given.reshape(shape))])

    return step


def _apply(op: str) -> Step:
    return lambda writer, value: writer.add(op, [value])


def _crop(writer: _Writer, value: str) -> str:
    left, top, right, bottom = (int(b) for b in writer.given.get("border", (0, 0, 0, 0)))
    scale = writer.given.get("scale")
    end = 2**31 - 1
    ends = [-bottom if bottom else end, -right if right else end]
    if scale:
        ends = [top + int(scale[0]), left + int(scale[1])]
    if writer.version < 10:
        return writer.add("Slice", [value], axes=[2, 3], starts=[top, left], ends=ends)
    parts = [np.array(part, np.int64) for part in ([top, left], ends, [2, 3])]
    return writer.add("Slice", [value, *map(writer.constant, parts)])


_FORMS: dict[str, tuple[Step, ...]] = {
    "ImageScaler": (_times("scale", 1.0), _plus("bias", channels=True)),
    "Affine": (_times("alpha", 1.0), _plus("beta")),
    "Scale": (_times("scale", 1.0),),
    "ScaledTanh": (_times("beta", 1.0), _apply("Tanh"), _times("alpha", 1.0)),
    "ParametricSoftplus": (_times("beta", 1.0), _apply("Softplus"), _times("alpha", 1.0)),
    "Crop": (_crop,),
}
