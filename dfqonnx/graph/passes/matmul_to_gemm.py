"""MatMul with a constant matrix becomes a Gemm; every Gemm gets one plain form.

MatMul(x, B) = Gemm(x, B^T, transB=1)                       x (N, I), B (I, K)
MatMul(x, B) = MatMul(x, B[0])                              x of 3 axes or more, B (1, I, K)
MatMul(x, b) = Squeeze(MatMul(x, b as (I, 1)))              b (I)
Gemm(x, B, c; transA=1) = Gemm(x^T, B, c)
Gemm(x, B, c; alpha, beta) = Gemm(x, alpha B, beta c)       and B as (K, I), transB=1
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import Outcome, node_pass


@node_pass
def convert_matmul_to_gemm(node: ir.Node) -> Outcome:
    """Rewrite two-dimensional MatMul as Gemm and bring every Gemm to the plain form."""
    matrix = edit.get_constant_input(node, 1)
    if matrix is not None and node.op_type == "MatMul":
        return _convert(node, matrix)
    return _make_plain(node, matrix) if matrix is not None and node.op_type == "Gemm" else False


def _convert(node: ir.Node, matrix: NDArray[Any]) -> Outcome:
    shape = edit.get_shape(node.inputs[0])
    if shape is None:
        return False
    if matrix.ndim == 1 and len(shape) > 1:
        node, matrix = _make_column(node, matrix, shape), matrix[:, None]
    elif matrix.ndim > 2 and len(shape) >= matrix.ndim and math.prod(matrix.shape[:-2]) == 1:
        matrix = matrix.reshape(matrix.shape[-2:])
        edit.set_constant(node, 1, matrix, stem=f"{node.outputs[0].name}/weight")
    if matrix.ndim != 2:
        return f"its weight has {matrix.ndim} axes"
    if len(shape) != 2:
        return f"a Gemm reads 2 axes, and its input has {len(shape)}"
    gemm = edit.derive_node(node, "Gemm", node.inputs[:2], {"transB": 1})
    edit.replace_node(node, gemm)
    edit.set_constant(gemm, 1, matrix.T, stem=f"{gemm.outputs[0].name}/weight")  # (K, I)
    return True


def _make_column(node: ir.Node, vector: NDArray[Any], shape: edit.Shape) -> ir.Node:
    """Replace a product with a vector by one with a matrix of one column; return its node."""
    assert node.graph is not None
    stem = str(node.outputs[0].name)
    column = edit.add_initializer(node.graph, f"{stem}/weight", vector[:, None])  # (I, 1)
    axis = edit.add_initializer(node.graph, f"{stem}/axes", np.array([len(shape) - 1]))
    product = edit.derive_node(node, "MatMul", [node.inputs[0], column])
    edit.set_output(product, f"{stem}/column", node.outputs[0].type, (*shape[:-1], 1))
    edit.replace_node(node, product, ir.node("Squeeze", [product.outputs[0], axis]))
    return product


def _transpose_input(node: ir.Node) -> None:
    """Do in a node of its own what `transA` does."""
    source, shape = node.inputs[0], edit.get_shape(node.inputs[0])
    assert node.graph is not None
    assert source is not None
    transpose = ir.node("Transpose", [source], {"perm": [1, 0]})
    name = f"{node.outputs[0].name}/transposed"
    edit.set_output(transpose, name, source.type, (shape or (None, None))[::-1])
    node.graph.insert_before(node, [transpose])
    node.replace_input_with(0, transpose.outputs[0])
    node.attributes.pop("transA")


def _make_plain(node: ir.Node, matrix: NDArray[Any]) -> Outcome:
    bias = edit.get_constant_input(node, 2)
    if edit.is_computed(node, 2):
        return "its bias is computed"
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    transposed = node.attributes.get_int("transB", 0) == 1
    outputs = matrix.shape[0] if transposed else matrix.shape[1]
    if bias is not None and (bias.size not in {1, outputs} or bias.shape[:-1] not in {(), (1,)}):
        return f"its bias has the shape {bias.shape}, not one number per output ({outputs})"
    if transposes := node.attributes.get_int("transA", 0) == 1:
        _transpose_input(node)
    new_weight = not transposed or alpha != 1.0
    if new_weight:
        weight = (matrix if transposed else matrix.T) * np.float32(alpha)  # (K, I)
        edit.set_constant(node, 1, weight, stem=f"{node.outputs[0].name}/weight")
    new_bias = bias is not None and (beta != 1.0 or bias.shape != (outputs,))
    if bias is not None and new_bias:
        row = np.broadcast_to(bias.reshape(-1) * np.float32(beta), (outputs,)).copy()  # (K,)
        edit.set_constant(node, 2, row, stem=f"{node.outputs[0].name}/bias")
    for name in ("alpha", "beta", "transA"):
        node.attributes.pop(name, None)
    node.attributes["transB"] = ir.AttrInt64("transB", 1)
    return new_weight or new_bias or transposes
