"""Free constants that stand for one batch size, and keep repeated ones small.

Mul(x, Expand(s (C, 1, 1), [1, C, H, W]))   -> Mul(x, s (1, C, 1, 1))     repeated by broadcasting
Concat(x, 0 (1, K, H, W), axis=1)           -> Pad(x, K channels of zeros)
Concat(x, c (1, K, H, W), axis=1)           -> Concat(x, Expand(c, [rows of x, K, H, W]))

A constant of B equal rows, for a file that is fixed to a batch of B, is one row for any batch. The
same at B = 1 is what converters from TensorFlow Lite write. In the exported file, whose batch is
fixed again, a runtime computes the Expand once, when it loads the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.concrete_inference import Inferred


def get_known_constant(inferred: Inferred, value: ir.Value | None) -> NDArray[Any] | None:
    """Return the constant that a value is at both batch sizes; None where it is none."""
    small, large = (known.constants.get(value) for known in inferred)
    if small is None or large is None or small.shape != large.shape:
        return None
    equal = np.array_equal(small, large, equal_nan=small.dtype.kind == "f")
    return small if equal else None


def add_known_constant(
    node: ir.Node, inferred: Inferred, array: NDArray[Any], *, stem: str
) -> ir.Value:
    """Return a new constant, known at both batch sizes, named after the output of `node`."""
    assert node.graph is not None
    value = edit.add_initializer(node.graph, f"{node.outputs[0].name}/{stem}", array)
    for known in inferred:
        known.set_constant(value, array)
    return value


def shrink_operands(node: ir.Node, inferred: Inferred, *, fixed_batch: int | None) -> None:
    """Give an elementwise node its constants without the axes that broadcasting repeats."""
    if not has_trait(node.op_type, Trait.AFFINE | Trait.EXTREMUM) and node.op_type != "PRelu":
        return
    for index, value in enumerate(node.inputs):
        array = get_known_constant(inferred, value)
        others = [v for i, v in enumerate(node.inputs) if i != index and v is not None]
        if array is None or array.size < 2 or not others:
            continue
        shapes = [[known.shape(other) for known in inferred] for other in others]
        small = _shrink(array, shapes, batch=inferred[0].batch, fixed_batch=fixed_batch)
        if small.size < array.size:
            new = add_known_constant(node, inferred, small, stem=f"input_{index}")
            node.replace_input_with(index, new)


def _shrink(
    array: NDArray[Any],
    others: list[list[tuple[int, ...] | None]],
    *,
    batch: int,
    fixed_batch: int | None,
) -> NDArray[Any]:
    """Return `array` with size 1 on every axis of equal numbers that another operand has."""
    for axis in range(array.ndim):
        size, back = array.shape[axis], axis - array.ndim
        first = array.take([0], axis)
        repeated = any(
            all(s is not None and len(s) >= -back and s[back] == size for s in pair)
            or (
                size == fixed_batch
                and pair[0] is not None
                and len(pair[0]) == -back
                and pair[0][0] == batch
            )
            for pair in others
        )
        if size > 1 and repeated and bool((array == first).all()):
            array = first
    return array


def free_concat(node: ir.Node, inferred: Inferred, *, fixed_batch: int | None) -> list[ir.Node]:
    """Let a Concat of channels fit any batch; return the nodes that stand for it, in order."""
    rank = _get_rank(node, inferred)
    axis = node.attributes.get_int("axis", 1)
    if not rank or axis % rank == 0:
        return [node]
    axis %= rank
    inputs = [v for v in node.inputs if v is not None]
    computed = [v for v in inputs if _is_computed(v, inferred)]
    if not computed or len(computed) == len(inputs):
        return [node]
    first, last = inputs.index(computed[0]), len(inputs) - inputs[::-1].index(computed[-1])
    before, middle, behind = inputs[:first], inputs[first:last], inputs[last:]
    widths = [_count_zeros(part, inferred, axis) for part in (before, behind)]
    if None not in widths and any(widths):
        return _pad(node, inferred, middle, axis=axis, widths=(widths[0] or 0, widths[1] or 0))
    rows = inferred[0].shape(computed[0]) or (0,)
    if fixed_batch is None or rows[0] != inferred[0].batch:
        return [node]
    made: list[ir.Node] = []
    for index, value in enumerate(inputs):
        array = get_known_constant(inferred, value)
        if array is not None and array.shape[0] == fixed_batch and (array == array[:1]).all():
            made += _expand(node, index, array, inferred, rows=computed[0])
    return [*made, node]


def _get_rank(node: ir.Node, inferred: Inferred) -> int:
    shapes = [inferred[0].shape(value) for value in node.inputs]
    return 0 if None in shapes or not shapes else len(shapes[0] or ())


def _is_computed(value: ir.Value, inferred: Inferred) -> bool:
    return any(value not in known.constants for known in inferred)


def _count_zeros(values: list[ir.Value], inferred: Inferred, axis: int) -> int | None:
    """Return how long constants of zeros are together on `axis`; None for any other values."""
    total = 0
    for value in values:
        arrays = [known.constants[value] for known in inferred]
        if any(array.any() for array in arrays) or arrays[0].dtype.kind != "f":
            return None
        if arrays[0].shape[axis] != arrays[1].shape[axis]:
            return None
        total += arrays[0].shape[axis]
    return total


def _pad(
    node: ir.Node,
    inferred: Inferred,
    values: list[ir.Value],
    *,
    axis: int,
    widths: tuple[int, int],
) -> list[ir.Node]:
    """Replace a Concat with zeros at its ends by a Pad, behind a Concat of what is left."""
    rank = _get_rank(node, inferred)
    amounts = np.zeros(2 * rank, np.int64)
    amounts[axis], amounts[rank + axis] = widths
    made, source = [], values[0]
    if len(values) > 1:
        made.append(edit.derive_node(node, "Concat", values, {"axis": axis}))
        made[0].name = f"{edit.get_node_name(node)}/values"
        made[0].outputs[0].name = f"{node.outputs[0].name}/values"
        source = made[0].outputs[0]
    pads = add_known_constant(node, inferred, amounts, stem="pads")
    made.append(edit.derive_node(node, "Pad", [source, pads]))
    edit.replace_node(node, *made)
    return made


def add_row_count(
    node: ir.Node, inferred: Inferred, rows: ir.Value, sizes: Sequence[int], *, stem: str
) -> list[ir.Node]:
    """Insert the nodes in front of `node` that compute [rows of `rows`, *sizes]; return them."""
    assert node.graph is not None
    rest = add_known_constant(node, inferred, np.array(sizes, np.int64), stem=f"{stem}/rest")
    stem = f"{node.outputs[0].name}/{stem}"
    count = ir.node("Shape", [rows], {"start": 0, "end": 1}, name=f"{stem}/Shape")
    target = ir.node("Concat", [count.outputs[0], rest], {"axis": 0}, name=f"{stem}/Concat")
    count.outputs[0].name, target.outputs[0].name = f"{stem}/rows", f"{stem}/shape"
    made = [count, target]
    node.graph.insert_before(node, made)
    return made


def _expand(
    node: ir.Node, index: int, array: NDArray[Any], inferred: Inferred, *, rows: ir.Value
) -> list[ir.Node]:
    """Let input `index` be as many equal rows as `rows` has; return the new nodes."""
    assert node.graph is not None
    row = array[:1]
    for axis in range(1, row.ndim):
        first = row.take([0], axis)
        row = first if bool((row == first).all()) else row
    constant = add_known_constant(node, inferred, row, stem=f"input_{index}/row")
    made = add_row_count(node, inferred, rows, array.shape[1:], stem=f"input_{index}")
    stem = f"{node.outputs[0].name}/input_{index}"
    expand = ir.node("Expand", [constant, made[-1].outputs[0]], name=f"{stem}/Expand")
    expand.outputs[0].name = f"{stem}/expanded"
    node.graph.insert_before(node, [expand])
    node.replace_input_with(index, expand.outputs[0])
    return [*made, expand]
