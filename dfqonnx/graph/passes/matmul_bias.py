"""A MatMul of more than two axes and the bias behind it become a Gemm, which adds it exactly.

MatMul(x, B) + c = Reshape(Gemm(Flatten(x), B^T, c))        x (N, ..., I), B (I, K), c (K)

A sum with a constant has no integer kernel, and the bias of a Gemm is kept in 32 bits; Flatten and
Reshape hand codes on.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import Outcome, node_pass


@node_pass
def fold_matmul_bias(node: ir.Node) -> Outcome:
    """Take the constant that is added to a product with a matrix into a Gemm."""
    matrix = edit.get_constant_input(node, 1) if node.op_type == "MatMul" else None
    shape, graph = edit.get_shape(node.inputs[0]) if node.inputs else None, node.graph
    if matrix is None or matrix.ndim != 2 or shape is None or len(shape) < 3 or graph is None:
        return False
    total = edit.get_only_consumer(node.outputs[0])
    if total is None or total.op_type != "Add":
        return False
    constant = total.inputs[0 if total.inputs[1] is node.outputs[0] else 1]
    bias, columns = edit.get_constant(constant), matrix.shape[1]
    if bias is None or bias.size not in {1, columns} or bias.ndim > len(shape):
        return False
    if bias.size == columns and bias.shape[-1] != columns:
        return False
    sizes = shape[1:-1]
    if not all(isinstance(size, int) for size in sizes):
        return "the sizes of what it reads are open, and a Gemm reads rows"
    stem, kind = str(total.outputs[0].name), total.outputs[0].type
    row = np.broadcast_to(bias.reshape(-1), (columns,)).copy()
    flatten = ir.node("Flatten", node.inputs[:1], {"axis": len(shape) - 1})
    edit.set_output(flatten, f"{stem}/rows", kind, (None, shape[-1]))
    weight = edit.add_initializer(graph, f"{stem}/weight", matrix.T.copy())
    added = edit.add_initializer(graph, f"{stem}/bias", row)
    inputs = [flatten.outputs[0], weight, added]
    gemm = edit.derive_node(node, "Gemm", inputs, {"transB": 1})
    edit.set_output(gemm, f"{stem}/sums", kind, (None, columns))
    to = edit.add_initializer(graph, f"{stem}/shape", np.array([-1, *sizes, columns], np.int64))
    reshape = edit.derive_node(total, "Reshape", [gemm.outputs[0], to])
    edit.replace_node(total, flatten, gemm, reshape)
    edit.remove_unread(node.outputs)
    return True
