"""Where quantizers stand: decided once, here, for the ONNX Runtime CPU target.

A *root* is a value that some node computes (behind its absorbed Relu), or the network's input. Its
*tree* are the tensors that value-preserving nodes make of it; they share its codes. Every reader of
a tensor in the tree asks for a width:

    layer (Conv, Gemm, MatMul)           bits.activations; the stream's 8 for first and last layers
    elementwise, normalization           the stream's 8; so does an elementwise node for an output
                                         that nobody reads

One width in the whole tree: one site at the root. Mixed: the root carries the widest, and each
tensor gets a second, narrower reading for the layers that want it. That is how a W4A4 network keeps
an 8-bit residual stream while its Conv read 4 bits; a sum that only such Conv read (behind a
projection shortcut) is rounded once, at their width. A Conv that nobody asks anything of still gets
8 bits at its output, because ONNX Runtime fuses no Conv without one; a last Gemm needs none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import onnx_ir as ir

from dfqonnx.core.quantization import IntegerRange, QuantizationConfig
from dfqonnx.core.quantization_plan import (
    ActivationQuantizer,
    FloatNode,
    QuantizationPlan,
    SharedQuantizer,
    WeightQuantizer,
)
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.placement.roles import Roles, assign_roles, ceiling_of
from dfqonnx.placement.value_ranges import non_negative_values


@dataclass
class _SharedScaleGroup:
    """A root, the tensors that share its codes, and who reads which at what width."""

    root: ir.Value
    aliases: list[tuple[ir.Value, ir.Node]] = field(default_factory=list)
    readings: list[tuple[ir.Value, ir.Node, int]] = field(default_factory=list)
    own: int | None = None  # width that the producer asks for where nobody reads

    @property
    def bits(self) -> int | None:
        """The widest of all demands; None without any."""
        return max((bits for _, _, bits in self.readings), default=self.own)


def place_quantizers(
    model: NormalizedModel, quant: QuantizationConfig, *, input_signed: bool
) -> QuantizationPlan:
    """Decide for every tensor of `model` whether and how it is quantized."""
    graph = model.ir.graph
    roles = assign_roles(graph, model.unsupported)
    trees = _group_shared_scales(graph, roles, quant)
    positive = non_negative_values(graph, input_signed=input_signed)
    activations: list[ActivationQuantizer] = []
    aliases: list[SharedQuantizer] = []
    reads: dict[ir.Node, str] = {}
    for tree in trees:
        if tree.bits is None:
            continue
        name = str(tree.root.name)
        signed = tree.root not in positive
        producer = tree.root.producer()
        ceiling = ceiling_of(producer) if producer is not None else None
        activations.append(
            ActivationQuantizer(
                name=name,
                tensor=name,
                grid=IntegerRange.activation(tree.bits, signed=signed),
                clip_max=ceiling,
                role=_role_of(tree, roles),
            )
        )
        aliases += [SharedQuantizer(str(v.name), name, str(n.name)) for v, n in tree.aliases]
        narrow = _requantize_consumers(tree, signed=signed, ceiling=ceiling)
        activations += narrow
        by_reader = {(s.tensor, c): s.name for s in narrow for c in s.consumers}
        for value, node, _ in tree.readings:
            reads[node] = by_reader.get((str(value.name), str(node.name)), name)
    return QuantizationPlan(
        activations=tuple(_mark_features(activations, graph, roles)),
        shared=tuple(aliases),
        weights=tuple(_weight_sites(graph, roles, quant, reads=reads)),
        floats=tuple(
            FloatNode(str(n.name), n.op_type, reason) for n, reason in roles.reasons.items()
        ),
    )


def _group_shared_scales(
    graph: ir.Graph, roles: Roles, quant: QuantizationConfig
) -> list[_SharedScaleGroup]:
    trees = [_SharedScaleGroup(value) for value in graph.inputs]
    for node in graph:
        role = roles.of[node]
        if role in {"absorbed", "alias", "shape"}:
            continue
        for value in node.outputs:
            tree = _SharedScaleGroup(roles.end(value))
            needs_output = node.op_type in {"Conv", "MatMul"} and role in {"layer", "normalization"}
            if role in {"elementwise", "normalization"} and node not in roles.tail:
                tree.own = quant.residual_bits if role == "elementwise" else None
            trees.append(tree)
            _collect(tree, tree.root, roles, quant)
            if tree.bits is None and needs_output and not _ends_in_matmul(node, roles):
                tree.own = quant.residual_bits
    for tree in trees[: len(graph.inputs)]:
        _collect(tree, tree.root, roles, quant)
    return trees


def _ends_in_matmul(node: ir.Node, roles: Roles) -> bool:
    return node.op_type == "MatMul" and node in roles.last


def _collect(
    tree: _SharedScaleGroup, value: ir.Value, roles: Roles, quant: QuantizationConfig
) -> None:
    for node, index in value.uses():
        role = roles.of[node]
        if role == "alias" and index == 0:
            for output in node.outputs:
                tree.aliases.append((output, node))
                _collect(tree, output, roles, quant)
        elif role == "layer" and index == 0:
            ends = node in roles.first or node in roles.last
            width = quant.residual_bits if ends else quant.bits.activations
            tree.readings.append((value, node, width))
        elif role == "elementwise" or (role == "normalization" and index == 0):
            tree.readings.append((value, node, quant.residual_bits))


def _requantize_consumers(
    tree: _SharedScaleGroup, *, signed: bool, ceiling: float | None
) -> list[ActivationQuantizer]:
    groups: dict[tuple[str, int], list[str]] = {}
    for value, node, bits in tree.readings:
        if bits != tree.bits:
            names = groups.setdefault((str(value.name), bits), [])
            if str(node.name) not in names:
                names.append(str(node.name))
    return [
        ActivationQuantizer(
            name=f"{tensor}@{bits}",
            tensor=tensor,
            grid=IntegerRange.activation(bits, signed=signed),
            consumers=tuple(names),
            clip_max=ceiling,
            role="node-input",
        )
        for (tensor, bits), names in groups.items()
    ]


def _role_of(tree: _SharedScaleGroup, roles: Roles) -> str:
    if tree.root.is_graph_input():
        return "input"
    readers = {node for _, node, _ in tree.readings}
    if readers & roles.last:
        return "classifier-input"
    if not readers:
        return "output"
    streams = any(roles.of[n] == "elementwise" for n in readers)
    return "stream" if streams else "node-input"


def _weight_sites(
    graph: ir.Graph, roles: Roles, quant: QuantizationConfig, *, reads: dict[ir.Node, str]
) -> list[WeightQuantizer]:
    sites = []
    for node in graph:
        role = roles.of[node]
        if role not in {"layer", "normalization"}:
            continue
        bits = quant.bits.weights
        if role == "normalization":
            bits = quant.residual_bits
        elif quant.first_last_bits is not None and (node in roles.first or node in roles.last):
            bits = quant.first_last_bits
        weight = node.inputs[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        assert weight is not None
        assert weight.shape is not None
        sites.append(
            WeightQuantizer(
                node=str(node.name),
                op=node.op_type,
                weight=str(weight.name),
                bias=str(bias.name) if bias is not None else None,
                grid=IntegerRange.weight(bits),
                axis=len(weight.shape) - 1 if node.op_type == "MatMul" else 0,
                input=reads[node],
            )
        )
    return sites


def _mark_features(
    sites: list[ActivationQuantizer], graph: ir.Graph, roles: Roles
) -> list[ActivationQuantizer]:
    """Mark residual sums; without any, the outputs of every second layer, the last included."""
    sums = [n for n in graph if n.op_type == "Add" and roles.of[n] == "elementwise"]
    if sums:
        chosen = {str(roles.end(n.outputs[0]).name) for n in sums}
    else:
        layers = [n for n in graph if roles.of[n] == "layer" and n not in roles.last]
        chosen = {str(roles.end(n.outputs[0]).name) for n in layers[::-1][::2]}
    return [replace(s, feature=not s.consumers and s.tensor in chosen) for s in sites]
