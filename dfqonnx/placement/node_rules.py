"""Which nodes the user's rules mean: by name, by a pattern of names, or by operator.

    Conv_12            a node, or a tensor that it makes, by name
    /model.22/*        names with * ? [abc], as in a shell
    Softmax            every node of an operator

Widths are those of Conv, Gemm and MatMul. Activations of 16 bits may be asked for of any node: an
elementwise node then reads and makes them, as a layer does.

A node keeps the name that it has in the user's file; one that was merged into another (a
BatchNormalization into its Conv) is found under the other's name.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from dfqonnx.core.quantization import MAX_BITS, BitWidths, NodeRules
from dfqonnx.errors import UsageError, did_you_mean
from dfqonnx.foreign_text import printable
from dfqonnx.graph.trainable_region import is_layer

NEAR_NAMES = 5


@dataclass(frozen=True)
class ResolvedRules:
    """What the rules say, node by node."""

    kept_float: Mapping[str, str] = field(default_factory=dict)  # name -> reason
    bits: Mapping[str, BitWidths] = field(default_factory=dict)  # by name; 16 bits of any node


def resolve_rules(rules: NodeRules, graph: ir.Graph, kernels: Container[str]) -> ResolvedRules:
    """Return what the rules say of the nodes of a graph; of several widths the last one counts.

    `kernels` are the operators that the target computes on codes: these alone read 16 bits.

    Raises:
        UsageError: a pattern means no node, or no layer; the nearest names are given.
    """
    nodes = list(graph)
    kept: dict[str, str] = {}
    bits: dict[str, BitWidths] = {}
    for pattern in rules.keep_float:
        found = find_nodes(pattern, nodes)
        if not found and rules.required:
            raise UsageError(f"--keep-float {printable(pattern)}: {_explain(pattern, nodes)}")
        kept.update({str(n.name): f"kept in float as asked ({printable(pattern)})" for n in found})
    layers = [node for node in nodes if is_layer(node)]
    computed = [node for node in nodes if node in layers or node.op_type in kernels]
    for pattern, widths in rules.bits_for:
        wide = widths.activations > MAX_BITS
        found = find_nodes(pattern, computed if wide else layers)
        if not found and rules.required:
            named = f"--bits-for {printable(pattern)}={widths.label}"
            others = find_nodes(pattern, nodes)
            if others:
                what = ", ".join(sorted({node.op_type for node in others}))
                raise UsageError(
                    f"{named}: means only {what}; widths are those of a Conv, Gemm or MatMul with"
                    " weights, but for activations of 16 bits (w8a16)"
                )
            raise UsageError(f"{named}: {_explain(pattern, computed if wide else layers)}")
        bits.update({str(node.name): widths for node in found})
    if layers and all(str(node.name) in kept for node in layers):
        raise UsageError(
            "--keep-float: every Conv, Gemm and MatMul would stay in float, and nothing would be"
            " quantized"
        )
    return ResolvedRules(kept, bits)


def find_nodes(pattern: str, nodes: list[ir.Node]) -> list[ir.Node]:
    """Return the nodes that a name, a pattern or an operator means."""
    exact = [node for node in nodes if pattern in _names_of(node)]
    if exact:
        return exact
    by_operator = [node for node in nodes if node.op_type == pattern]
    if by_operator:
        return by_operator
    return [n for n in nodes if any(fnmatch.fnmatchcase(name, pattern) for name in _names_of(n))]


def _names_of(node: ir.Node) -> list[str]:
    return [str(node.name), *(str(value.name) for value in node.outputs if value.name)]


def _explain(pattern: str, nodes: list[ir.Node]) -> str:
    every = [_names_of(node) for node in nodes]  # names of nodes first, then of tensors
    named = [*(names[0] for names in every), *(name for names in every for name in names[1:])]
    names = [printable(name) for name in dict.fromkeys(named)]
    operators = sorted({node.op_type for node in nodes})
    plain = pattern.strip("*?")
    inside = [name for name in names if plain and plain.lower() in name.lower()][:NEAR_NAMES]
    if inside:
        return f"means no node; names like it: {', '.join(inside)}"
    parts = {part for name in names for part in name.split("/") if part}
    near = did_you_mean(plain, [*names, *operators, *sorted(parts)], label="")
    return (
        f"means no node{near} Operators: {', '.join(operators)}. Names are those that"
        " `dfqonnx inspect --layers` lists; * stands for anything"
    )
