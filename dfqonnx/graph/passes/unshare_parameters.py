"""Every Conv, Gemm and MatMul owns its parameters, and every node and value has its own name.

A weight that several nodes share is copied, because each node gets scales of its own; a missing
bias becomes zeros, because quantized files carry one; other shared initializers stay shared.
Names of nodes that begin like those which export gives its own become others.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from dfqonnx.core.quantization_plan import QUANTIZER_PREFIX, SEPARATOR_PREFIX
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import PassResult, node_pass


@node_pass
def unshare_parameters(node: ir.Node) -> bool:
    """Give every layer a weight and bias that no other node reads."""
    weight = edit.get_constant(node.inputs[1]) if has_trait(node.op_type, Trait.LAYER) else None
    if weight is None:
        return False
    changed = False
    for index, value in enumerate(node.inputs[1:], start=1):
        array = edit.get_constant(value)
        if value is not None and array is not None and len(value.uses()) > 1:
            edit.set_new_constant(node, index, array, stem=str(value.name))
            changed = True
    if node.op_type != "MatMul" and edit.get_input(node, 2) is None:
        zeros = np.zeros(weight.shape[0], dtype=np.float32)
        edit.set_new_constant(node, 2, zeros, stem=f"{node.outputs[0].name}/bias")
        changed = True
    return changed


def assign_unique_names(model: ir.Model) -> PassResult:
    """Remove what nobody reads, then make node and value names unique and non-empty."""
    common.RemoveUnusedNodesPass()(model)
    taken: set[str] = set()
    values: dict[str, ir.Value] = {}
    for value in [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]:
        values.setdefault(str(value.name), value)
    for node in model.graph:
        for value in node.outputs:
            name = value.name or f"{node.op_type}_output"
            if values.setdefault(name, value) is not value:
                name = edit.make_unique(name, values)
                values[name] = value
            value.name = name
        name = edit.get_node_name(node)
        if name.startswith((QUANTIZER_PREFIX, SEPARATOR_PREFIX)):
            name = f"{node.op_type} {name}"
        node.name = edit.make_unique(name, taken)
        taken.add(node.name)
    return PassResult(modified=True)
