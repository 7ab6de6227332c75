"""What each node is to a quantizer, for ONNX Runtime CPU.

layer          Conv, Gemm, MatMul with a constant weight: integer weight, integer input
normalization  the depthwise 1x1 Conv that stands for a left-over BatchNormalization
elementwise    Add, Mul, Concat, average pools, Sigmoid, LeakyRelu: integer in and out
absorbed       Relu or Clip(0, c) whose work the quantizer behind it does (Q saturates at 0 and
               at rint(c / scale)), so that Conv -> Relu -> Q is one integer kernel
alias          MaxPool, Reshape, Slice ...: hands codes on, same scale in and out
float          everything else, with the reason
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from dfqonnx.graph.model import ORIGIN
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import constant, only_consumer, text
from dfqonnx.graph.passes.merge_clips import bounds
from dfqonnx.graph.trainable_region import is_layer

Role = Literal["layer", "normalization", "elementwise", "absorbed", "alias", "shape", "float"]
_BINARY = frozenset({"Add", "Mul"})
_ELEMENTWISE = _BINARY | {"Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"}
_ALIAS = frozenset(
    {
        *("MaxPool", "GlobalMaxPool", "ReduceMax", "Reshape", "Flatten", "Transpose", "Squeeze"),
        *("Unsqueeze", "Slice", "Split", "Gather", "DepthToSpace", "SpaceToDepth", "Identity"),
        *("Expand", "Tile"),
    }
)
_BEHIND = "it stands behind the last layer, on values that no integer node reads"
_NO_KERNEL = {
    "ConvTranspose": "ONNX Runtime CPU has no integer ConvTranspose",
    "HardSwish": "ONNX Runtime CPU has no integer HardSwish",
    "HardSigmoid": "ONNX Runtime CPU has no integer HardSigmoid",
    "BatchNormalization": "its parameters are computed",
}


@dataclass(frozen=True)
class Roles:
    """The role of every node.

    Attributes:
        of: role by node.
        reasons: why a node stays in float.
        first: layers without another layer before them (they read the network's input).
        last: layers without another layer behind them (classifiers).
        tail: nodes behind which there is no layer any more.
    """

    of: dict[ir.Node, Role]
    reasons: dict[ir.Node, str]
    first: frozenset[ir.Node]
    last: frozenset[ir.Node]
    tail: frozenset[ir.Node]

    def end(self, value: ir.Value) -> ir.Value:
        """Return the value behind an absorbed Relu or Clip, else `value` itself."""
        reader = only_consumer(value)
        if reader is not None and self.of.get(reader) == "absorbed":
            return reader.outputs[0]
        return value


def assign_roles(graph: ir.Graph, opaque: Mapping[str, str] | None = None) -> Roles:
    """Give every node its role; layers are judged first, since the rest depends on them.

    Args:
        graph: the normalized graph.
        opaque: nodes that cannot be computed, or stand behind one, with the reason.
    """
    nodes = list(graph)
    blind = opaque or {}
    layers = {
        n
        for n in nodes
        if is_layer(n) and ORIGIN not in n.metadata_props and str(n.name) not in blind
    }
    behind = _downstream(nodes, layers)
    before = _upstream(nodes, layers)
    tail = frozenset(n for n in nodes if n not in before and n not in layers)
    roles: dict[ir.Node, Role] = {}
    reasons: dict[ir.Node, str] = {}
    for node in nodes:
        if node in layers:
            roles[node] = "layer"
            continue
        role, reason = _judge(node, roles, tail=node in tail)
        if str(node.name) in blind:
            role, reason = "float", blind[str(node.name)]
        roles[node] = role
        if role == "float":
            reasons[node] = reason
    return Roles(
        of=roles,
        reasons=reasons,
        first=frozenset(n for n in layers if n not in behind),
        last=frozenset(n for n in layers if n not in before),
        tail=tail,
    )


def _judge(node: ir.Node, roles: dict[ir.Node, Role], *, tail: bool) -> tuple[Role, str]:
    if all(o.dtype is not None and o.dtype != ir.DataType.FLOAT for o in node.outputs):
        return "shape", ""
    if _absorbed(node, roles, tail=tail):
        return "absorbed", ""
    if tail:
        return "float", _BEHIND
    if is_layer(node):
        return "normalization", ""
    if node.op_type in _ALIAS or _is_plain_pad(node) or _is_nearest(node):
        return "alias", ""
    if node.op_type == "Relu" or ceiling_of(node) is not None:
        return "elementwise", ""
    if node.op_type in _ELEMENTWISE:
        if node.op_type in _BINARY and any(constant(i) is not None for i in node.inputs):
            return "float", "one operand is a constant; only sums and products of two tensors fuse"
        return "elementwise", ""
    if has_trait(node.op_type, Trait.LAYER):
        return "float", "its weight or bias is computed, or of a form that no integer kernel takes"
    default = f"ONNX Runtime CPU has no integer kernel for {node.op_type}"
    return "float", _NO_KERNEL.get(node.op_type, default)


def _absorbed(node: ir.Node, roles: dict[ir.Node, Role], *, tail: bool) -> bool:
    if node.op_type != "Relu" and ceiling_of(node) is None:
        return False
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    if source is None or producer is None or only_consumer(source) is not node:
        return False
    role = roles.get(producer)
    sums = role == "elementwise" and producer.op_type == "Add"
    return role in {"layer", "normalization"} or sums or (role == "float" and not tail)


def ceiling_of(node: ir.Node) -> float | None:
    """Return c of a Clip(0, c) with a finite constant c; None for anything else."""
    limits = bounds(node) if node.op_type == "Clip" else None
    if limits is None or limits[0] != 0.0 or not 0.0 < limits[1] < float("inf"):
        return None
    return limits[1]


def _is_plain_pad(node: ir.Node) -> bool:
    """Pad by zeros, or by values that are there: codes stay codes."""
    if node.op_type != "Pad":
        return False
    if text(node, "mode", "constant") != "constant":
        return True
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    value = constant(fill)
    return fill is None or (value is not None and not value.any())


def _is_nearest(node: ir.Node) -> bool:
    return node.op_type == "Resize" and text(node, "mode", "nearest") == "nearest"


def _downstream(nodes: Iterable[ir.Node], layers: set[ir.Node]) -> set[ir.Node]:
    """Nodes with a layer before them; `nodes` in topological order."""
    found: set[ir.Node] = set()
    for node in nodes:
        if any(p in layers or p in found for p in node.predecessors()):
            found.add(node)
    return found


def _upstream(nodes: list[ir.Node], layers: set[ir.Node]) -> set[ir.Node]:
    """Nodes with a layer behind them."""
    found: set[ir.Node] = set()
    for node in reversed(nodes):
        if any(s in layers or s in found for s in node.successors()):
            found.add(node)
    return found
