"""Remove nodes that hand their input on: Identity, Dropout, empty Pad, Cast to the same type.

Identity(x) = Dropout(x) = Cast(x, type of x) = Pad(x, 0 ... 0) = Concat(x) = x   (inference)

Two reshapes in a row are one; one that changes nothing is none.

Reshape, Flatten, Squeeze and Unsqueeze keep the row-major order of elements, so a chain of them is
decided by its first input and its last shape:   Flatten when that is (N, K), else Reshape.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import (
    bypass,
    constant,
    dims,
    drop,
    initializer,
    integer,
    set_input,
    take_over,
)


def remove_identities(model: ir.Model) -> bool:
    """Remove every node that does nothing at inference."""
    changed = False
    for node in list(model.graph):
        if _does_nothing(node):
            changed |= bypass(node)
    return changed


def _does_nothing(node: ir.Node) -> bool:
    source = node.inputs[0] if node.inputs else None
    if source is None:
        return False
    match node.op_type:
        case "Identity":
            return True
        case "Dropout":
            return not any(o.uses() or o.is_graph_output() for o in node.outputs[1:])
        case "Cast":
            return source.dtype is not None and int(source.dtype) == integer(node, "to", 0)
        case "Concat":
            return len(node.inputs) == 1
        case "Pad":
            pads = constant(node.inputs[1])
            return pads is not None and not pads.any()
        case "Reshape":
            shape = dims(source)
            return shape is not None and None not in shape and shape == dims(node.outputs[0])
        case _:
            return False


def merge_reshapes(model: ir.Model) -> bool:
    """Merge chains of reshapes and remove those without effect."""
    changed = False
    for node in list(model.graph):
        if not has_trait(node.op_type, Trait.ROW_MAJOR) or node.inputs[0] is None:
            continue
        before = node.inputs[0].producer()
        if before is not None and has_trait(before.op_type, Trait.ROW_MAJOR):
            changed |= _merge(model.graph, node, before)
    for node in list(model.graph):
        if not has_trait(node.op_type, Trait.ROW_MAJOR):
            continue
        shape = dims(node.inputs[0])
        if shape is not None and None not in shape and shape == dims(node.outputs[0]):
            changed |= bypass(node)
    return changed


def _merge(graph: ir.Graph, node: ir.Node, before: ir.Node) -> bool:
    source, shape, target = before.inputs[0], dims(before.inputs[0]), dims(node.outputs[0])
    if source is None or shape is None or target is None or not shape or not target:
        return False
    if shape == target:
        set_input(node, 0, source)
    elif shape[0] != target[0] or any(not isinstance(d, int) for d in target[1:]):
        return False
    else:
        if len(target) == 2:
            new = ir.node("Flatten", [source], {"axis": 1}, name=node.name)
        else:
            sizes = np.array([0, *target[1:]], dtype=np.int64)
            value = initializer(graph, f"{node.outputs[0].name}/shape", sizes)
            new = ir.node("Reshape", [source, value], name=node.name)
        graph.insert_before(node, new)
        take_over(node.outputs[0], new.outputs[0])
        drop(node)
    if not before.outputs[0].uses() and not before.outputs[0].is_graph_output():
        drop(before)
    return True
