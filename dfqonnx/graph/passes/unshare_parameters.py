"""Every Conv, Gemm and MatMul owns its parameters, and every node and value has its own name.

A weight that several nodes share is copied, because each node gets scales of its own; a missing
bias becomes zeros, because quantized files carry one; other shared initializers stay shared.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import constant, initializer, set_input


def unshare_parameters(model: ir.Model) -> bool:
    """Give every layer a weight and bias that no other node reads."""
    changed = False
    for node in list(model.graph):
        if not has_trait(node.op_type, Trait.LAYER) or constant(node.inputs[1]) is None:
            continue
        for index, value in enumerate(node.inputs[1:], start=1):
            array = constant(value)
            if value is not None and array is not None and len(value.uses()) > 1:
                set_input(node, index, initializer(model.graph, str(value.name), array))
                changed = True
        if node.op_type != "MatMul" and (len(node.inputs) < 3 or node.inputs[2] is None):
            weight = constant(node.inputs[1])
            assert weight is not None
            zeros = np.zeros(weight.shape[0], dtype=np.float32)
            set_input(node, 2, initializer(model.graph, f"{node.outputs[0].name}/bias", zeros))
            changed = True
    return changed


def assign_unique_names(model: ir.Model) -> bool:
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
                name = _fresh(name, values)
                values[name] = value
            value.name = name
        name = node.name or f"{node.op_type}_{node.outputs[0].name}"
        node.name = _fresh(name, taken) if name in taken else name
        taken.add(node.name)
    return True


def _fresh(name: str, taken: set[str] | dict[str, ir.Value]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
