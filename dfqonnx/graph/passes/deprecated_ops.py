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

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dfqonnx.graph.passes.opset_upgrade import STANDARD_DOMAINS, get_opset

Nodes = list[onnx.NodeProto]


def replace_deprecated_ops(proto: onnx.ModelProto) -> None:
    """Rewrite every such node of `proto` in place."""
    graph, nodes = proto.graph, Nodes()
    if not any(_is_deprecated(node) for node in graph.node):
        return
    for index, node in enumerate(graph.node):
        rewritten = _is_deprecated(node)
        nodes += _Rewriter(proto, node, index).rewrite() if rewritten else [node]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _is_deprecated(node: onnx.NodeProto) -> bool:
    return node.op_type in _STEPS and node.domain in STANDARD_DOMAINS and len(node.input) == 1


class _Rewriter:
    """Writes one node with standard operators."""

    def __init__(self, proto: onnx.ModelProto, node: onnx.NodeProto, index: int) -> None:
        self.graph, self.node, self.version = proto.graph, node, get_opset(proto)
        self.stem = node.name or f"{node.op_type}_{index}"
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.nodes: Nodes = []

    def rewrite(self) -> Nodes:
        """Return the nodes that stand for it; the last one makes its output."""
        value = self.node.input[0]
        for step in _STEPS[self.node.op_type]:
            value = step(self, value)
        if not self.nodes:
            value = self.add("Identity", [value])
        self.nodes[-1].output[0] = self.node.output[0]
        return self.nodes

    def get_number(self, name: str, default: float) -> float:
        """Return an attribute."""
        return float(self.attributes.get(name, default))

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node and return its output."""
        name = f"{self.stem}/{len(self.nodes)}"
        node = helper.make_node(op, list(inputs), [name], name=name, **attributes)
        self.nodes.append(node)
        return name

    def add_constant(self, array: Any) -> str:
        """Add a constant and return its name."""
        name = f"{self.stem}/constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name


Step = Callable[[_Rewriter, str], str]


def _multiply(name: str, default: float) -> Step:
    def step(rewriter: _Rewriter, value: str) -> str:
        factor = rewriter.get_number(name, default)
        if factor == 1.0:
            return value
        return rewriter.add("Mul", [value, rewriter.add_constant(np.float32(factor).reshape(1))])

    return step


def _add(name: str, *, channels: bool = False) -> Step:
    def step(rewriter: _Rewriter, value: str) -> str:
        summand = np.asarray(rewriter.attributes.get(name, 0.0), np.float32)
        if not summand.any():
            return value
        shape = (1, -1, 1, 1) if channels else (1,)
        return rewriter.add("Add", [value, rewriter.add_constant(summand.reshape(shape))])

    return step


def _apply(op: str) -> Step:
    return lambda rewriter, value: rewriter.add(op, [value])


def _crop(rewriter: _Rewriter, value: str) -> str:
    left, top, right, bottom = (int(b) for b in rewriter.attributes.get("border", (0, 0, 0, 0)))
    scale = rewriter.attributes.get("scale")
    end = 2**31 - 1
    ends = [-bottom if bottom else end, -right if right else end]
    if scale:
        ends = [top + int(scale[0]), left + int(scale[1])]
    if rewriter.version < 10:
        return rewriter.add("Slice", [value], axes=[2, 3], starts=[top, left], ends=ends)
    parts = [np.array(part, np.int64) for part in ([top, left], ends, [2, 3])]
    return rewriter.add("Slice", [value, *map(rewriter.add_constant, parts)])


_STEPS: dict[str, tuple[Step, ...]] = {
    "ImageScaler": (_multiply("scale", 1.0), _add("bias", channels=True)),
    "Affine": (_multiply("alpha", 1.0), _add("beta")),
    "Scale": (_multiply("scale", 1.0),),
    "ScaledTanh": (_multiply("beta", 1.0), _apply("Tanh"), _multiply("alpha", 1.0)),
    "ParametricSoftplus": (_multiply("beta", 1.0), _apply("Softplus"), _multiply("alpha", 1.0)),
    "Crop": (_crop,),
}
