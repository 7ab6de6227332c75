"""What a pass reports, and the loop that most passes consist of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

Outcome = bool | str  # rewritten; not a node that the rewrite is for; why this one cannot be


@dataclass(frozen=True)
class PassResult:
    """What one run of a pass did.

    Attributes:
        modified: whether it changed the graph.
        skipped: nodes of the kind that it rewrites but that it had to leave, each with the reason.
    """

    modified: bool
    skipped: tuple[tuple[ir.Node, str], ...] = ()


Pass = Callable[[ir.Model], PassResult]


def rewrite_nodes(
    model: ir.Model, *rewrites: Callable[[ir.Node], Outcome], reverse: bool = False
) -> PassResult:
    """Try each rewrite on every node of the graph, one rewrite after the other.

    Args:
        model: is edited in place.
        rewrites: return whether they changed the graph, or the reason why they had to leave a node.
        reverse: begin with the last node.
    """
    modified = False
    skipped: list[tuple[ir.Node, str]] = []
    for rewrite in rewrites:
        nodes = list(model.graph)
        for node in reversed(nodes) if reverse else nodes:
            outcome = rewrite(node)
            if isinstance(outcome, str):
                skipped.append((node, outcome))
            else:
                modified |= outcome
    return PassResult(modified, tuple(skipped))
