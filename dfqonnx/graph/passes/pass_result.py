"""What a pass reports, and the loop that most passes consist of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

Outcome = bool | str  # rewritten; not a node that the rewrite is for; why this one cannot be


@dataclass(frozen=True)
class PassResult:
    """What one run of a pass did."""

    modified: bool  # whether it changed the graph
    # nodes of the kind that it rewrites but that it had to leave, each with the reason
    skipped: tuple[tuple[ir.Node, str], ...] = ()


Pass = Callable[[ir.Model], PassResult]


def node_pass(rewrite: Callable[[ir.Node], Outcome]) -> Pass:
    """Make a pass of a function that rewrites one node."""

    @functools.wraps(rewrite)
    def run(model: ir.Model) -> PassResult:
        return rewrite_nodes(model, rewrite)

    return run


def rewrite_nodes(
    model: ir.Model, *rewrites: Callable[[ir.Node], Outcome], reverse: bool = False
) -> PassResult:
    """Try each rewrite on every node, one rewrite after the other; `reverse` takes the last first.

    A rewrite returns whether it changed the graph, or the reason why it had to leave the node.
    """
    modified = False
    skipped: list[tuple[ir.Node, str]] = []
    for rewrite in rewrites:
        nodes = list(model.graph)
        for node in reversed(nodes) if reverse else nodes:
            if node.graph is None:  # an earlier rewrite removed it
                continue
            outcome = rewrite(node)
            if isinstance(outcome, str):
                skipped.append((node, outcome))
            else:
                modified |= outcome
    return PassResult(modified, tuple(skipped))
