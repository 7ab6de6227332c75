"""A LayerNormalization that exporters write as nine nodes becomes one.

    d = x - mean(x)            y = d / sqrt(mean(d^2) + epsilon) * gamma + beta

over the last axes; d^2 as Pow or Mul, the root as Sqrt or Pow, gamma and beta as constants or left
out. Sums of squares have a range that no 8-bit grid holds, so quantizers in between would cost more
than everything else.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, rewrite_nodes

_LARGEST_EPSILON = 1e-2


def recognize_layer_norm(model: ir.Model) -> PassResult:
    """Replace every LayerNormalization in pieces."""
    return rewrite_nodes(model, _recognize)


def _recognize(node: ir.Node) -> Outcome:
    if node.op_type != "Div":
        return False
    difference = node.inputs[0]
    centered = None if difference is None else difference.producer()
    epsilon = _match_deviation(node.inputs[1], difference)
    if centered is None or difference is None or epsilon is None or centered.op_type != "Sub":
        return False
    x, shape = centered.inputs[0], edit.get_shape(centered.inputs[0])
    if x is None or shape is None:
        return False
    axes = _match_mean(centered.inputs[1], x, len(shape))
    squares = _match_variance_axes(node.inputs[1], len(shape))
    if axes is None or axes != squares or axes != tuple(range(axes[0], len(shape))):
        return False
    sizes = shape[axes[0] :]
    if not all(isinstance(size, int) for size in sizes):
        return "the size of what it normalizes is open"
    whole = tuple(size for size in sizes if isinstance(size, int))
    gamma, last = _match_constant(node, "Mul", whole)
    beta, last = _match_constant(last, "Add", whole)
    _replace(node, last, x, axis=axes[0], scale=gamma, bias=beta, epsilon=epsilon, sizes=whole)
    return True


def _match_deviation(value: ir.Value | None, difference: ir.Value | None) -> float | None:
    """Return epsilon where `value` is the deviation of what is centered to `difference`."""
    mean = _find_variance(value)
    if mean is None or difference is None:
        return None
    variance, epsilon = mean
    square = variance.inputs[0].producer() if variance.inputs[0] is not None else None
    if square is None:
        return None
    exponent = edit.get_constant_input(square, 1) if square.op_type == "Pow" else None
    pow_two = exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2.0
    squared = {*square.inputs[:1]} if pow_two else {*square.inputs}
    if not (pow_two or square.op_type == "Mul"):
        return None
    (base,) = squared if len(squared) == 1 else (None,)
    return epsilon if base is not None and _equals(base, difference) else None


def _equals(first: ir.Value, second: ir.Value) -> bool:
    """Tell whether two values are one, or differences of the same values."""
    if first is second:
        return True
    nodes = first.producer(), second.producer()
    alike = [node is not None and node.op_type == "Sub" for node in nodes]
    if not all(alike) or nodes[0] is None or nodes[1] is None:
        return False
    return nodes[0].inputs[0] is nodes[1].inputs[0] and nodes[0].inputs[1] is nodes[1].inputs[1]


def _find_variance(value: ir.Value | None) -> tuple[ir.Node, float] | None:
    """Return the ReduceMean and epsilon of sqrt(mean + epsilon)."""
    root = None if value is None else value.producer()
    if root is None or root.inputs[0] is None:
        return None
    exponent = edit.get_constant_input(root, 1) if root.op_type == "Pow" else None
    power = exponent is not None and exponent.size == 1 and float(exponent.reshape(-1)[0]) == 0.5
    if root.op_type != "Sqrt" and not power:
        return None
    total = root.inputs[0].producer()
    if total is None or total.op_type != "Add":
        return None
    for index in (0, 1):
        array, other = edit.get_constant(total.inputs[index]), total.inputs[1 - index]
        mean = None if other is None else other.producer()
        if array is None or array.size != 1 or mean is None or mean.op_type != "ReduceMean":
            continue
        epsilon = float(array.reshape(-1)[0])
        if 0 < epsilon <= _LARGEST_EPSILON:
            return mean, epsilon
    return None


def _match_variance_axes(value: ir.Value | None, rank: int) -> tuple[int, ...] | None:
    found = _find_variance(value)
    return None if found is None else _kept_axes(found[0], rank)


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
    array = edit.get_constant(constant)
    if array is None or array.dtype != np.float32:
        return None, node
    lead = array.ndim - len(sizes)
    if array.size == 1 or (lead >= 0 and array.shape == (1,) * lead + sizes):
        return constant, after
    return None, node


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
