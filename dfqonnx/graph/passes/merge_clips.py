"""One form for clamps.

Clip(x, 0, inf) = Max(x, 0) = Relu(x)        Min(Max(x, lo), hi) = Clip(x, lo, hi)
Min(Relu(x), hi) = Clip(x, 0, hi)            where the Relu has no other reader
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, rewrite_nodes

_HUGE = float(np.finfo(np.float32).max)
_INFINITY = float("inf")


def merge_clips(model: ir.Model) -> PassResult:
    """Write Max and Min by constants as Clip, and a Clip at 0 without upper bound as Relu."""
    return rewrite_nodes(model, _convert_extremum, _merge, _convert_to_relu)


def get_clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """Return the constant bounds of a Clip; None when they are computed."""
    found = []
    for index, free in ((1, -_INFINITY), (2, _INFINITY)):
        if edit.is_computed(node, index):
            return None
        array = edit.get_constant_input(node, index)
        bound = free if array is None else float(array.reshape(-1)[0])
        found.append(free if abs(bound) >= _HUGE else bound)
    return found[0], found[1]


def _convert_extremum(node: ir.Node) -> bool:
    if not has_trait(node.op_type, Trait.EXTREMUM) or len(node.inputs) != 2 or node.graph is None:
        return False
    index = 1 if edit.get_constant(node.inputs[0]) is None else 0  # of the bound
    bound, source = edit.get_constant(node.inputs[index]), node.inputs[1 - index]
    if bound is None or source is None or bound.size != 1 or bound.dtype != np.float32:
        return False
    value = edit.add_initializer(node.graph, f"{node.outputs[0].name}/bound", bound.reshape(()))
    inputs = [source, value] if node.op_type == "Max" else [source, None, value]
    edit.replace_node(node, edit.derive_node(node, "Clip", inputs))
    return True


def _merge(node: ir.Node) -> bool:
    """Clip after Clip or Relu: the second one alone, with the tighter bounds."""
    before = edit.get_producer(node) if node.op_type == "Clip" else None
    if before is None or node.graph is None or not has_trait(before.op_type, Trait.CLAMP):
        return False
    inner = get_clip_bounds(before) if before.op_type == "Clip" else (0.0, _INFINITY)
    outer = get_clip_bounds(node)
    if inner is None or outer is None or edit.get_only_consumer(before.outputs[0]) is not node:
        return False
    low, high = max(inner[0], outer[0]), min(inner[1], outer[1])
    if low > high:
        return False
    clip = edit.derive_node(node, "Clip", [before.inputs[0], None, None])
    for index, name, bound in ((1, "min", low), (2, "max", high)):
        if np.isfinite(bound):
            array = np.array(bound, dtype=np.float32)
            stem = f"{node.outputs[0].name}/{name}"
            edit.set_input(clip, index, edit.add_initializer(node.graph, stem, array))
    edit.replace_node(node, clip)
    edit.remove_node(before)
    return True


def _convert_to_relu(node: ir.Node) -> Outcome:
    limits = get_clip_bounds(node) if node.op_type == "Clip" else ()
    if limits is None:
        return "its bounds are computed"
    if limits != (0.0, _INFINITY):
        return False
    edit.replace_node(node, edit.derive_node(node, "Relu", node.inputs[:1]))
    return True
