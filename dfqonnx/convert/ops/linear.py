"""Gemm, MatMul, Einsum.

Gemm: Y = alpha A' B' + beta C, where ' transposes when trans* is set and C broadcasts to (M, N).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import operator


@operator("Gemm", 7, 9, 11, 13)
def gemm(
    A: Tensor,  # (M, K), or (K, M) when transA
    B: Tensor,  # (K, N), or (N, K) when transB
    C: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """General matrix product."""
    if transA:
        A = A.t()
    if alpha == 1.0 and (C is None or (beta == 1.0 and C.shape == (B.shape[0 if transB else 1],))):
        return F.linear(A, B if transB else B.t(), C)
    product = A @ (B.t() if transB else B)
    if alpha != 1.0:
        product = product * alpha if product.is_floating_point() else product * int(alpha)
    if C is None:
        return product
    return product + (C if beta == 1.0 else C * beta)


@operator("MatMul", 1, 9, 13)
def matmul(A: Tensor, B: Tensor) -> Tensor:
    """Matrix product with numpy's broadcasting."""
    return torch.matmul(A, B)


@operator("Einsum", 12, 28)
def einsum(*inputs: Tensor, equation: str) -> Tensor:
    """Sum of products by Einstein's convention."""
    return torch.einsum(equation.replace(" ", ""), *inputs)
