"""Mul, Div, Add and Sub by a per-channel constant move into the Conv or Gemm before them.

Exporters write biases as a separate Add of shape [1, K] or [C, 1, 1] and frozen normalizations as
Mul and Add:    (W x + c) * m = (m W) x + m c,        (W x + c) + b = W x + (c + b).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.channel_affine import convert_to_depthwise, fold_into_layer
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, node_pass, rewrite_nodes


def fold_affines(model: ir.Model) -> PassResult:
    """Fold every per-channel constant operation that directly follows its layer."""
    return rewrite_nodes(model, _fold)


def _fold(node: ir.Node) -> Outcome:
    matched = _match(node)
    return False if matched is None else fold_into_layer(node, *matched)


@node_pass
def convert_affines(node: ir.Node) -> bool:
    """Turn what is left of them on images into depthwise Conv; scalars stay as they are."""
    if _fold(node) is True:  # into the depthwise Conv made just before
        return True
    matched = _match(node)
    if matched is None:
        return False
    source, factor, offset = matched
    shape = edit.get_shape(source) or ()
    channels = shape[1] if len(shape) == 4 else None
    if not isinstance(channels, int) or not 1 < channels == max(factor.size, offset.size):
        return False
    if node.inputs[0] is not source:  # the constant came first
        edit.set_input(node, 0, source)
    a, b = (np.broadcast_to(v, (channels,)).copy() for v in (factor, offset))
    return convert_to_depthwise(node, a, b)


def _match(node: ir.Node) -> tuple[ir.Value, NDArray[Any], NDArray[Any]] | None:
    """Return the computed operand, factor and offset of a per-channel operation; else None."""
    if not has_trait(node.op_type, Trait.AFFINE):
        return None
    first, second = node.inputs
    operand, source = edit.get_constant(second), first
    if operand is None and has_trait(node.op_type, Trait.COMMUTATIVE):
        operand, source = edit.get_constant(first), second
    shape = edit.get_shape(source)
    if operand is None or source is None or shape is None or operand.dtype != np.float32:
        return None
    if len(shape) < 2 or edit.get_shape(node.outputs[0]) != shape:
        return None
    values = _to_channel_vector(operand, rank=len(shape))
    if values is None or not isinstance(shape[1], int) or values.size not in {1, shape[1]}:
        return None
    one, zero = np.ones(1), np.zeros(1)
    match node.op_type:
        case "Add":
            return source, one, values
        case "Sub":
            return source, one, -values
        case "Mul":
            return source, values, zero
    return (source, 1.0 / values, zero) if values.all() else None  # Div


def _to_channel_vector(operand: NDArray[Any], *, rank: int) -> NDArray[Any] | None:
    """Return a constant as one value per channel of an N C ... value; None if it is not that."""
    shape = (1,) * (rank - operand.ndim) + operand.shape
    per_channel = len(shape) == rank and math.prod(shape) == shape[1]
    return operand.reshape(-1).astype(np.float64) if per_channel or operand.size == 1 else None
