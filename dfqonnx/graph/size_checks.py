"""How large a graph may be, counted before anything walks through it.

Local functions are inlined, and forty of which each calls the one before twice make a trillion
nodes out of four kilobytes; so what inlining would make is added up first, each function once:

    size(f) = sum over its nodes of size(g), where the node calls the function g, else 1

A hundred thousand nodes are ten times the largest networks that are quantized here, and every
later step takes time in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from dfqonnx.errors import Offense

MAX_NODES = 30_000
MAX_EDGES = 20 * MAX_NODES  # inputs and outputs of all nodes
MAX_FUNCTION_DEPTH = 200
Key = tuple[str, str, str]  # domain, name and overload


def check_graph_size(proto: onnx.ModelProto) -> tuple[Offense, ...]:
    """Return why a graph is too large to be read; empty when it is not."""
    sizes = _measure_functions(proto)
    if isinstance(sizes, Offense):
        return (sizes,)
    found = [*_too_many(_count(proto.graph.node, sizes), MAX_NODES, "nodes")]
    edges = sum(len(n.input) + len(n.output) for n in _all_nodes(proto))
    found += _too_many(edges, MAX_EDGES, "inputs and outputs of nodes")
    found += _too_many(len(proto.graph.initializer), MAX_EDGES, "initializers")
    return tuple(found[:1])


def _too_many(count: int, most: int, what: str) -> Iterator[Offense]:
    if count > most:
        number = f"{count:,}" if count < 10**9 else f"{float(count):.1e}"
        reason = f"it has {number} {what}, functions inlined; at most {most:,} are read"
        yield Offense("graph", "", reason, "export it again, or simplify it (onnxsim)")


def _all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from proto.graph.node
    for function in proto.functions:
        yield from function.node


def _key(call: onnx.NodeProto) -> Key:
    return call.domain, call.op_type, call.overload


def _count(nodes: Iterable[onnx.NodeProto], sizes: dict[Key, int]) -> int:
    return sum(sizes.get(_key(node), 1) for node in nodes)


def _measure_functions(proto: onnx.ModelProto) -> dict[Key, int] | Offense:
    """Return the nodes that a call of each function becomes, or why there is no end to it."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    calls = {
        key: {_key(node) for node in function.node} & functions.keys()
        for key, function in functions.items()
    }
    sizes: dict[Key, int] = {}
    for depth in range(len(functions) + 1):
        ready = [k for k, needed in calls.items() if k not in sizes and needed <= sizes.keys()]
        if not ready:
            break
        if depth > MAX_FUNCTION_DEPTH:
            return Offense("graph", "", f"its functions nest over {MAX_FUNCTION_DEPTH} deep")
        sizes |= {key: _count(functions[key].node, sizes) for key in ready}
    endless = functions.keys() - sizes.keys()
    if endless:
        name = min(endless)[1]
        return Offense(name, "function", "it calls itself", "ONNX does not allow that")
    return sizes
