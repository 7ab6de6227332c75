"""A LayerNormalization that exporters write as nine nodes becomes one.

    d = x - mean(x)            y = d / sqrt(mean(d^2) + epsilon) * gamma + beta

over the last axes; d^2 as Pow or Mul, the root as Sqrt or Pow, its inverse as a factor, gamma and
beta as constants or left out; and as x r + (beta - mean(x) r), r = gamma / sqrt(...). Sums
of squares have a range that no 8-bit grid holds, so quantizers in between would cost more than
everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, rewrite_nodes

_LARGEST_EPSILON = 1e-2


def recognize_layer_norm(model: ir.Model) -> PassResult:
    """Replace every LayerNormalization in pieces."""
    return rewrite_nodes(model, _recognize)


@dataclass(frozen=True, kw_only=True)
class _Normalized:
    """The parts of x normalized: x, its mean, the variance with epsilon, gamma and beta."""

    x: ir.Value | None
    mean: ir.Value | None
    total: ir.Value | None
    scale: ir.Value | None = None
    bias: ir.Value | None = None
    last: ir.Node


def _recognize(node: ir.Node) -> Outcome:
    found = _read_division(node) or _read_moments(node)
    if found is None or found.x is None or found.mean is None:
        return False
    x, shape, variance = found.x, edit.get_shape(found.x), _read_variance(found.total)
    if variance is None or shape is None or not _is_square(variance[0], x, found.mean):
        return False
    axes = _match_mean(found.mean, x, len(shape))
    squares = _kept_axes(variance[0], len(shape))
    if axes is None or axes != squares or axes != tuple(range(axes[0], len(shape))):
        return False
    sizes = shape[axes[0] :]
    if not all(isinstance(size, int) for size in sizes):
        return "the size of what it normalizes is open"
    whole = tuple(size for size in sizes if isinstance(size, int))
    gamma, beta, last = found.scale, found.bias, found.last
    if gamma is None and beta is None:
        gamma, last = _match_constant(last, "Mul", whole)
        beta, last = _match_constant(last, "Add", whole)
    elif not all(_fits(value, whole) for value in (gamma, beta) if value is not None):
        return False
    _replace(node, last, x, axis=axes[0], scale=gamma, bias=beta, epsilon=variance[1], sizes=whole)
    return True


def _read_division(node: ir.Node) -> _Normalized | None:
    """Read d / sqrt(v), or d times the inverse of the root."""
    total, difference = None, None
    if node.op_type == "Div":
        difference, total = node.inputs[0], _read_root(node.inputs[1])
    elif node.op_type == "Mul":
        for index in (0, 1):
            inverse = _read_inverse_root(node.inputs[index])
            if inverse is not None:
                difference, total = node.inputs[1 - index], inverse
    centered = None if difference is None else difference.producer()
    if centered is None or centered.op_type != "Sub" or total is None:
        return None
    return _Normalized(x=centered.inputs[0], mean=centered.inputs[1], total=total, last=node)


def _read_moments(node: ir.Node) -> _Normalized | None:
    """Read x r + (beta - mean r) with r = gamma / sqrt(v), as TensorFlow writes it."""
    for index in (0, 1) if node.op_type == "Add" else ():
        product, shift = (_get_maker(node, at) for at in (index, 1 - index))
        if product is None or shift is None or shift.op_type != "Sub":
            continue
        if product.op_type != "Mul":
            continue
        moved = _get_maker(shift, 1)
        if moved is None or moved.op_type != "Mul":
            continue
        for at in (0, 1):
            root, x = product.inputs[at], product.inputs[1 - at]
            if root not in moved.inputs:
                continue
            mean = moved.inputs[0 if moved.inputs[1] is root else 1]
            total, scale = _read_scaled_inverse(root)
            if total is not None:
                return _Normalized(
                    x=x, mean=mean, total=total, scale=scale, bias=shift.inputs[0], last=node
                )
    return None


def _get_maker(node: ir.Node, index: int) -> ir.Node | None:
    return edit.get_producer(node, index)


def _read_scaled_inverse(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """Return (v, gamma) of gamma / sqrt(v); no gamma where there is none."""
    plain = _read_inverse_root(value)
    node = None if value is None else value.producer()
    if plain is not None or node is None or node.op_type != "Mul":
        return plain, None
    for index in (0, 1):
        total = _read_inverse_root(node.inputs[index])
        if total is not None:
            return total, node.inputs[1 - index]
    return None, None


def _read_root(value: ir.Value | None) -> ir.Value | None:
    """Return v of sqrt(v), written as Sqrt or Pow."""
    node = None if value is None else value.producer()
    if node is None:
        return None
    return node.inputs[0] if node.op_type == "Sqrt" or _exponent(node) == 0.5 else None


def _read_inverse_root(value: ir.Value | None) -> ir.Value | None:
    """Return v of 1 / sqrt(v), written with Reciprocal, Div or Pow."""
    node = None if value is None else value.producer()
    if node is None:
        return None
    if node.op_type == "Reciprocal":
        return _read_root(node.inputs[0])
    if _exponent(node) == -0.5:
        return node.inputs[0]
    one = edit.get_constant_input(node, 0) if node.op_type == "Div" else None
    return _read_root(node.inputs[1]) if one is not None and (one == 1).all() else None


def _exponent(node: ir.Node) -> float | None:
    array = edit.get_constant_input(node, 1) if node.op_type == "Pow" else None
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _is_square(variance: ir.Node, x: ir.Value, mean: ir.Value) -> bool:
    """Tell whether the mean is of the squares of x - mean."""
    square = edit.get_producer(variance)
    if square is None or not (_exponent(square) == 2.0 or square.op_type == "Mul"):
        return False
    based = square.inputs[:1] if square.op_type == "Pow" else square.inputs
    return all(_is_difference(value, x, mean) for value in based)


def _is_difference(value: ir.Value | None, x: ir.Value, mean: ir.Value) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type == "Sub" and [*node.inputs] == [x, mean]


def _read_variance(value: ir.Value | None) -> tuple[ir.Node, float] | None:
    """Return the ReduceMean and epsilon of mean + epsilon."""
    total = None if value is None else value.producer()
    if total is None or total.op_type != "Add":
        return None
    for index in (0, 1):
        array, mean = edit.get_constant(total.inputs[index]), _get_maker(total, 1 - index)
        if array is None or array.size != 1 or mean is None or mean.op_type != "ReduceMean":
            continue
        epsilon = float(array.reshape(-1)[0])
        if 0 < epsilon <= _LARGEST_EPSILON:
            return mean, epsilon
    return None


def _match_mean(value: ir.Value | None, x: ir.Value, rank: int) -> tuple[int, ...] | None:
    """Return the axes of the mean of x that `value` is."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "ReduceMean" or node.inputs[0] is not x:
        return None
    return _kept_axes(node, rank)


def _kept_axes(node: ir.Node, rank: int) -> tuple[int, ...] | None:
    if not node.attributes.get_int("keepdims", 1):
        return None
    return edit.get_axes(node, rank) or None


def _match_constant(
    node: ir.Node, op: str, sizes: tuple[int, ...]
) -> tuple[ir.Value | None, ir.Node]:
    """Return the constant operand of `op` behind `node` and that node; None and `node` without."""
    after = edit.get_only_consumer(node.outputs[0])
    if after is None or after.op_type != op:
        return None, node
    constant = after.inputs[0 if after.inputs[1] is node.outputs[0] else 1]
    return (constant, after) if _fits(constant, sizes) else (None, node)


def _fits(constant: ir.Value | None, sizes: tuple[int, ...]) -> bool:
    """Tell whether a constant is one number, or one for each of what is normalized."""
    array = edit.get_constant(constant)
    if array is None or array.dtype != np.float32:
        return False
    lead = array.ndim - len(sizes)
    return array.size == 1 or (lead >= 0 and array.shape == (1,) * lead + sizes)


def _replace(
    node: ir.Node,
    last: ir.Node,
    x: ir.Value,
    *,
    axis: int,
    scale: ir.Value | None,
    bias: ir.Value | None,
    epsilon: float,
    sizes: tuple[int, ...],
) -> None:
    """Put a LayerNormalization in the place of `last`, and remove the nodes in front of it."""
    graph, stem = node.graph, str(last.outputs[0].name)
    assert graph is not None
    gamma = np.ones(sizes, np.float32)
    if (array := edit.get_constant(scale)) is not None:
        gamma = np.broadcast_to(array, sizes).copy() if array.size == 1 else array.reshape(sizes)
    inputs = [x, edit.add_initializer(graph, f"{stem}/scale", gamma)]
    if (array := edit.get_constant(bias)) is not None:
        beta = np.broadcast_to(array, sizes).copy() if array.size == 1 else array.reshape(sizes)
        inputs.append(edit.add_initializer(graph, f"{stem}/bias", beta))
    new = edit.derive_node(last, "LayerNormalization", inputs)
    new.attributes["axis"] = ir.AttrInt64("axis", axis)
    new.attributes["epsilon"] = ir.AttrFloat32("epsilon", epsilon)
    before = [value for each in (last, node) for value in each.inputs]
    edit.replace_node(last, new)
    edit.remove_unread(before)
