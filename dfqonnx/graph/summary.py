"""The normalized graph as a list of places: what each node reads, and what it costs."""

from __future__ import annotations

from dfqonnx.core.layer_analysis import GraphNode
from dfqonnx.graph.cost import estimate_costs
from dfqonnx.graph.model import NormalizedModel


def summarize_graph(model: NormalizedModel) -> tuple[GraphNode, ...]:
    """Return every node in graph order."""
    by_node = {cost.node: cost for cost in estimate_costs(model)}
    found = []
    for node in model.ir.graph:
        makers = [None if v is None else v.producer() for v in node.inputs]
        reads = dict.fromkeys(str(maker.name) for maker in makers if maker is not None)
        cost = by_node.get(str(node.name))
        found.append(
            GraphNode(
                node=str(node.name),
                op=node.op_type,
                reads=tuple(reads),
                multiply_adds=0 if cost is None else cost.multiply_adds,
                parameters=0 if cost is None else cost.parameters,
            )
        )
    return tuple(found)
