"""Masks in front of a Softmax get finite numbers.

    softmax(s + m), m = -infinity or the least float32   ->   m = -1e9

Both exponentials are 0, and where a whole row is masked, the finite one gives equal shares as the
least float32 does. An infinity would make error measures and ranges infinite, and what is beyond
1e18 is taken for a damaged weight (`graph/checks`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import node_pass

MASKED = -1e9  # beyond any score: exp(score + MASKED) is 0 in float32
_MOST_STEPS = 8  # nodes between the mask and its Softmax
_HANDS_ON = Trait.VALUE_PRESERVING | Trait.AFFINE | Trait.EXTREMUM | Trait.CLAMP


@node_pass
def bound_softmax_masks(node: ir.Node) -> bool:
    """Bound the constants that a Where or a sum lets a Softmax read."""
    if not _is_masking(node) or not _leads_to_softmax(node):
        return False
    changed = False
    for index, value in enumerate(node.inputs):
        array = edit.get_constant(value)
        if array is None or array.dtype.kind != "f" or not (array < MASKED).any():
            continue
        bounded = np.maximum(array, np.array(MASKED, array.dtype))  # a NaN stays one
        edit.set_new_constant(node, index, bounded, stem=f"{node.outputs[0].name}/mask")
        changed = True
    return changed


def _is_masking(node: ir.Node) -> bool:
    return node.op_type == "Add" or node.op_type == "Where"


def _leads_to_softmax(node: ir.Node) -> bool:
    """Tell whether a Softmax is all that comes of a node, through sums and moves."""
    reader: ir.Node | None = node
    for _ in range(_MOST_STEPS):
        reader = None if reader is None else edit.get_only_consumer(reader.outputs[0])
        if reader is None:
            return False
        if has_trait(reader.op_type, Trait.SOFTMAX):
            return True
        if not (has_trait(reader.op_type, _HANDS_ON) or _is_masking(reader)):
            return False
    return False
