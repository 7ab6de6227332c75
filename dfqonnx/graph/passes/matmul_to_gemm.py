"""MatMul with a constant matrix becomes a Gemm; every Gemm gets one plain form.

MatMul(x, B) = Gemm(x, B^T, transB=1)                       x (N, I), B (I, K)
Gemm(x, B, c; alpha, beta) = Gemm(x, alpha B, beta c)       and B as (K, I), transB=1
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes.edit import constant, dims, drop, integer, real, set_constant, take_over


def convert_matmul_to_gemm(model: ir.Model) -> bool:
    """Rewrite two-dimensional MatMul as Gemm and bring every Gemm to the plain form."""
    changed = False
    for node in list(model.graph):
        if node.op_type == "MatMul":
            changed |= _from_matmul(model.graph, node)
        elif node.op_type == "Gemm":
            changed |= _plain(node)
    return changed


def _from_matmul(graph: ir.Graph, node: ir.Node) -> bool:
    source, matrix = node.inputs[0], constant(node.inputs[1])
    shape = dims(source)
    if matrix is None or matrix.ndim != 2 or shape is None or len(shape) != 2:
        return False
    gemm = ir.node(
        "Gemm",
        [source, node.inputs[1]],
        {"transB": 1},
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    graph.insert_before(node, gemm)
    take_over(node.outputs[0], gemm.outputs[0])
    drop(node)
    set_constant(gemm, 1, matrix.T, stem=f"{gemm.outputs[0].name}/weight")  # (K, I)
    return True


def _plain(node: ir.Node) -> bool:
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
        weight = (matrix if transposed else matrix.T) * np.float32(alpha)  # (K, I)
        set_constant(node, 1, weight, stem=f"{node.outputs[0].name}/weight")
        changed = True
    if bias is not None and (beta != 1.0 or bias.shape != (outputs,)):
        row = np.broadcast_to(bias.reshape(-1) * np.float32(beta), (outputs,)).copy()  # (K,)
        set_constant(node, 2, row, stem=f"{node.outputs[0].name}/bias")
        changed = True
    for name in ("alpha", "beta", "transA"):
        node.attributes.pop(name, None)
    node.attributes["transB"] = ir.AttrInt64("transB", 1)
    return changed
