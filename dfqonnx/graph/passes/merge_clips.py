"""One spelling for clamps.

Clip(x, 0, inf) = Max(x, 0) = Relu(x)        Min(Max(x, lo), hi) = Clip(x, lo, hi)
Min(Relu(x), hi) = Clip(x, 0, hi)            where the Relu has no other reader
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import constant, drop, initializer, only_consumer, take_over

_HUGE = float(np.finfo(np.float32).max)


def merge_clips(model: ir.Model) -> bool:
    """Write Max and Min by constants as Clip, and a Clip at 0 without ceiling as Relu."""
    changed = False
    for node in list(model.graph):
        if has_trait(node.op_type, Trait.EXTREMUM):
            changed |= _from_extremum(model.graph, node)
    for node in list(model.graph):
        if node.op_type == "Clip":
            changed |= _merge(node)
    for node in list(model.graph):
        if node.op_type == "Clip" and bounds(node) == (0.0, float("inf")):
            _replace(model.graph, node, ir.node("Relu", [node.inputs[0]], name=node.name))
            changed = True
    return changed


def bounds(node: ir.Node) -> tuple[float, float] | None:
    """Return the constant bounds of a Clip; None when they are computed."""
    found = []
    for index, free in ((1, -float("inf")), (2, float("inf"))):
        value = node.inputs[index] if len(node.inputs) > index else None
        array = constant(value)
        if value is not None and array is None:
            return None
        bound = free if array is None else float(array.reshape(-1)[0])
        found.append(free if abs(bound) >= _HUGE else bound)
    return found[0], found[1]


def _from_extremum(graph: ir.Graph, node: ir.Node) -> bool:
    if len(node.inputs) != 2:
        return False
    first, second = node.inputs
    bound, source = (
        (constant(second), first) if constant(first) is None else (constant(first), second)
    )
    if bound is None or source is None or bound.size != 1 or bound.dtype != np.float32:
        return False
    value = initializer(graph, f"{node.outputs[0].name}/bound", bound.reshape(()))
    inputs = [source, value] if node.op_type == "Max" else [source, None, value]
    _replace(graph, node, ir.node("Clip", inputs, name=node.name))
    return True


def _merge(node: ir.Node) -> bool:
    """Clip after Clip or Relu: the second one alone, with the tighter bounds."""
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if source is None or before is None or node.graph is None:
        return False
    if not has_trait(before.op_type, Trait.CLAMP):
        return False
    inner = bounds(before) if before.op_type == "Clip" else (0.0, float("inf"))
    outer = bounds(node)
    if inner is None or outer is None or only_consumer(source) is not node:
        return False
    low, high = max(inner[0], outer[0]), min(inner[1], outer[1])
    if low > high:
        return False
    graph, stem = node.graph, node.outputs[0].name
    inputs: list[ir.Value | None] = [before.inputs[0]]
    for name, bound in (("min", low), ("max", high)):
        array = np.array(bound, dtype=np.float32)
        inputs.append(initializer(graph, f"{stem}/{name}", array) if np.isfinite(bound) else None)
    _replace(graph, node, ir.node("Clip", inputs, name=node.name))
    drop(before)
    return True


def _replace(graph: ir.Graph, node: ir.Node, new: ir.Node) -> None:
    new.metadata_props.update(node.metadata_props)
    graph.insert_before(node, new)
    take_over(node.outputs[0], new.outputs[0])
    drop(node)
