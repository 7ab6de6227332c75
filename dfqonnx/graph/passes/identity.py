"""Remove nodes that hand their input on: Identity, Dropout, empty Pad, Cast to the same type.

Identity(x) = Dropout(x) = Cast(x, type of x) = Pad(x, 0 ... 0) = Concat(x) = x   (inference)
"""

from __future__ import annotations

import onnx_ir as ir

from dfqonnx.graph.passes.edit import bypass, constant, dims, integer


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
