"""The smallest operator set that holds the exported graph.

INT4 initializers need opset 21 (IR 10). With INT8 storage, opset 13 (IR 8) is enough, since it
brought per-channel DequantizeLinear and holds Clip on uint8; ONNX Runtime 1.18 and its like load
that. A graph goes down only if every operator of it is listed here (its form did not change its
meaning between 13 and 21) and fits the older schema; else it stays at 21.
"""

from __future__ import annotations

import onnx.defs
import onnx_ir as ir

OPSET, IR_VERSION = 21, 10
OLD_OPSET, OLD_IR_VERSION = 13, 8

_UNCHANGED = frozenset({
    "Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DequantizeLinear",
    "Div", "Elu", "Exp", "Flatten", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid",
    "Identity", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "QuantizeLinear", "Relu", "Reshape",
    "Sigmoid", "Slice", "Softmax", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip


def choose_opset(model: ir.Model, *, packed: bool) -> tuple[int, int]:
    """Return opset and IR version for `model`; `packed` says that it holds INT4 tensors.

    A graph that was normalized at an opset above 21 keeps it: it may hold newer operators.
    """
    graph, own = model.graph, model.opset_imports.get("", OPSET)
    if own > OPSET:
        return own, max(IR_VERSION, model.ir_version)
    if not packed and all(_fits(node) for node in graph):
        return OLD_OPSET, OLD_IR_VERSION
    return OPSET, IR_VERSION


def _fits(node: ir.Node) -> bool:
    if node.domain not in {"", "ai.onnx"} or node.op_type not in _UNCHANGED:
        return False
    schema = onnx.defs.get_schema(node.op_type, OLD_OPSET)
    inputs = len(node.inputs)
    while inputs and node.inputs[inputs - 1] is None:
        inputs -= 1
    return schema.min_input <= inputs <= schema.max_input and all(
        name in schema.attributes for name in node.attributes
    )
