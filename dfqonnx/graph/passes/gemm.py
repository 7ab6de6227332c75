"""MatMul with a constant matrix becomes a Gemm; every Gemm gets one plain form.

MatMul(x, B) = Gemm(x, B^T, transB=1)                       x (N, I), B (I, K)
Gemm(x, B, c; alpha, beta) = Gemm(x, alpha B, beta c)       and B as (K, I), transB=1
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes.edit import (
    constant,
    dims,
    drop,
    initializer,
    integer,
    real,
    set_input,
    take_over,
)


def to_gemm(model: ir.Model) -> bool:
    """Rewrite two-dimensional MatMul as Gemm and bring every Gemm to the plain form."""
    changed = False
    for node in list(model.graph):
        if node.op_type == "MatMul":
            changed |= _from_matmul(model.graph, node)
        elif node.op_type == "Gemm":
            changed |= _plain(model.graph, node)
    return changed


def _from_matmul(graph: ir.Graph, node: ir.Node) -> bool:
    source, matrix = node.inputs[0], constant(node.inputs[1])
    shape = dims(source)
    if matrix is None or matrix.ndim != 2 or shape is None or len(shape) != 2:
        return False
    assert node.inputs[1] is not None
    weight = initializer(graph, str(node.inputs[1].name), matrix.T)  # (K, I)
    gemm = ir.node(
        "Gemm",
        [source, weight],
        {"transB": 1},
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    graph.insert_before(node, gemm)
    take_over(node.outputs[0], gemm.outputs[0])
    drop(node)
    return True


def _plain(graph: ir.Graph, node: ir.Node) -> bool:
    matrix = constant(node.inputs[1])
    if matrix is None or integer(node, "transA", 0):
        return False
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    transposed = integer(node, "transB", 0) == 1
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant(bias_value)
    if bias_value is not None and bias is None:
        return False
    outputs = matrix.shape[0] if transposed else matrix.shape[1]
    if bias is not None and (bias.size not in {1, outputs} or bias.shape[:-1] not in {(), (1,)}):
        return False
    changed = False
    if not transposed or alpha != 1.0:
        assert node.inputs[1] is not None
        weight = (matrix if transposed else matrix.T) * np.float32(alpha)
        set_input(node, 1, initializer(graph, str(node.inputs[1].name), weight))
        changed = True
    if bias is not None and (beta != 1.0 or bias.shape != (outputs,)):
        assert bias_value is not None
        row = np.broadcast_to(bias.reshape(-1) * np.float32(beta), (outputs,)).copy()
        set_input(node, 2, initializer(graph, str(bias_value.name), row))
        changed = True
    for name in ("alpha", "beta", "transA"):
        node.attributes.pop(name, None)
    node.attributes["transB"] = ir.AttrInt64("transB", 1)
    return changed
