"""Which nodes a quantizer is there for: what has to leave it before the quantizer itself can go.

A quantizer stands in a plan because a Conv, Gemm or MatMul reads through it, because another node
(a residual sum, a Concat, a product) is computed on its codes, or because the kernel that makes its
tensor gives out codes. So a tensor is in float only where all of these are; a width of one reader
is a quantizer of its own (`tensor@4`), beside the one that the others need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.placement.roles import Roles, assign_roles
from dfqonnx.targets.profile import TARGETS, TargetProfile


@dataclass(frozen=True, kw_only=True)
class QuantizerUse:
    """The nodes that need one activation quantizer of a plan.

    Attributes:
        name: of the quantizer.
        bits: its width.
        layers: the Conv, Gemm and MatMul with a weight that read through it.
        others: other nodes that are computed on its codes.
        maker: the node whose kernel gives out these codes; None where none needs to.
    """

    name: str
    bits: int
    layers: tuple[str, ...]
    others: tuple[str, ...]
    maker: str | None


def find_quantizer_uses(model: NormalizedModel, plan: QuantizationPlan) -> tuple[QuantizerUse, ...]:
    """Return what each activation quantizer of a plan is there for, in the order of the plan."""
    graph, target = model.ir.graph, TARGETS[plan.target]
    floats = {node.node: node.reason for node in plan.floats if node.node not in plan.isolated}
    roles = assign_roles(graph, target, {**model.unsupported, **floats})
    readers: dict[str, list[ir.Node]] = {}
    makers: dict[str, ir.Node] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None:
                readers.setdefault(str(value.name), []).append(node)
        if roles.of[node] != "absorbed":  # what such a node makes counts as made before it
            makers.update({str(roles.end(output).name): node for output in node.outputs})
    shared: dict[str, list[str]] = {}
    for each in plan.shared:
        shared.setdefault(each.of, []).append(each.tensor)
    layers: dict[str, list[str]] = {}
    for weight in plan.weights:
        layers.setdefault(weight.input, []).append(weight.node)
    found = []
    for quantizer in plan.activations:
        at_consumers = bool(quantizer.consumers)
        tensors = [quantizer.tensor, *shared.get(quantizer.name, ())]
        reading = [] if at_consumers else [n for t in tensors for n in readers.get(t, ())]
        others = dict.fromkeys(str(n.name) for n in reading if roles.of[n] == "elementwise")
        maker = None if at_consumers else makers.get(quantizer.tensor)
        needed = maker is not None and _gives_codes(maker, roles, target)
        found.append(
            QuantizerUse(
                name=quantizer.name,
                bits=quantizer.grid.bits,
                layers=tuple(layers.get(quantizer.name, ())),
                others=tuple(others),
                maker=str(maker.name) if needed and maker is not None else None,
            )
        )
    return tuple(found)


def _gives_codes(node: ir.Node, roles: Roles, target: TargetProfile) -> bool:
    """Tell whether the integer kernel of a node needs a quantizer behind it."""
    role = roles.of[node]
    if role == "elementwise":
        return node not in roles.tail or node.op_type in target.quantized_tail
    if role not in {"layer", "normalization"}:
        return False
    output = target.kernels[node.op_type].output
    return output == "always" or (output == "inside" and node not in roles.last)


def find_computing_nodes(model: NormalizedModel, target: TargetProfile) -> Mapping[str, str]:
    """Return, by names of nodes and of values, the node whose kernel computes them.

    A Relu or Clip that is absorbed is part of the kernel before it: runtimes name a fused kernel
    after what its last node makes. Names of nodes come before those of values.
    """
    graph = model.ir.graph
    roles = assign_roles(graph, target, model.unsupported)
    nodes, values = dict[str, str](), dict[str, str]()
    for node in graph:
        name = str(node.name)
        if roles.of[node] == "absorbed":
            name = values.get(str(node.inputs[0].name) if node.inputs[0] else "", name)
        nodes[str(node.name)] = name
        values.update({str(value.name): name for value in node.outputs if value.name})
    return {**values, **nodes}


def list_other_nodes(uses: tuple[QuantizerUse, ...], layers: Mapping[str, object]) -> list[str]:
    """Return the nodes without a weight that compute on codes, in the order of the quantizers."""
    found: dict[str, None] = {}
    for use in uses:
        for node in (*use.others, *([use.maker] if use.maker is not None else [])):
            if node not in layers:
                found[node] = None
    return list(found)
