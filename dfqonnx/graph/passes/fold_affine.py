"""Mul, Div, Add and Sub by a per-channel constant move into the Conv or Gemm before them.

Exporters write biases as a separate Add of shape [1, K] or [C, 1, 1] and frozen normalizations as
Mul and Add:    (W x + c) * m = (m W) x + m c,        (W x + c) + b = W x + (c + b).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.channel_affine import convert_to_depthwise, scale_layer
from dfqonnx.graph.passes.edit import constant, dims, drop, only_consumer, set_input, take_over


def fold_affines(model: ir.Model) -> bool:
    """Fold every per-channel constant operation that directly follows its layer."""
    changed = False
    for node in list(model.graph):
        if has_trait(node.op_type, Trait.AFFINE):
            changed |= _fold(node)
    return changed


def convert_affines(model: ir.Model) -> bool:
    """Turn what is left of them on images into depthwise Conv; scalars stay as they are."""
    changed = False
    for node in list(model.graph):
        if has_trait(node.op_type, Trait.AFFINE) and _fold(
            node
        ):  # into the depthwise Conv made just before
            changed = True
            continue
        found = _read(node) if has_trait(node.op_type, Trait.AFFINE) else None
        if found is None:
            continue
        source, factor, offset = found
        shape = dims(source) or ()
        channels = shape[1] if len(shape) == 4 else None
        if not isinstance(channels, int) or not 1 < channels == max(factor.size, offset.size):
            continue
        if node.inputs[0] is not source:  # the constant came first
            set_input(node, 0, source)
        a, b = (np.broadcast_to(v, (channels,)).copy() for v in (factor, offset))
        changed |= convert_to_depthwise(node, a, b)
    return changed


def _fold(node: ir.Node) -> bool:
    found = _read(node)
    if found is None:
        return False
    source, factor, offset = found
    layer = source.producer()
    if layer is None or only_consumer(source) is not node:
        return False
    if not scale_layer(layer, factor, offset):
        return False
    take_over(node.outputs[0], layer.outputs[0])
    drop(node)
    return True


def _read(node: ir.Node) -> tuple[ir.Value, NDArray[Any], NDArray[Any]] | None:
    """Return the computed operand, factor and offset of a per-channel operation."""
    first, second = node.inputs
    operand, source = constant(second), first
    if operand is None and has_trait(node.op_type, Trait.COMMUTATIVE):
        operand, source = constant(first), second
    shape = dims(source)
    if operand is None or source is None or shape is None or operand.dtype != np.float32:
        return None
    if len(shape) < 2 or dims(node.outputs[0]) != shape:
        return None
    values = per_channel(operand, rank=len(shape))
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


def per_channel(operand: NDArray[Any], *, rank: int) -> NDArray[Any] | None:
    """Return a constant as one value per channel of an N C ... value; None if it is not that."""
    if operand.size == 1:
        return operand.reshape(-1).astype(np.float64)
    shape = (1,) * (rank - operand.ndim) + operand.shape
    if len(shape) != rank or any(d != 1 for a, d in enumerate(shape) if a != 1):
        return None
    return operand.reshape(-1).astype(np.float64)
