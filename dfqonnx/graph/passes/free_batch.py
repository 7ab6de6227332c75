"""Free nodes of a batch size that the exporter wrote into them.

Reshape(x, [1, 192])          -> [0, 192]     a leading entry equal to the fixed batch: copy it
Reshape(x, [58, 2, 1936])     -> [-1, 2, 1936] one that no longer fits: images stack on axis 0
Squeeze(x)                    -> Squeeze(x, axes), else a single image would lose its batch axis
Unsqueeze(Squeeze(x, 0), 0)   -> x            in a file that is fixed to one image
Slice(x, [0, 2], [1, 9])      -> Slice(x, [2], [9], axes=[1])   where all of a batch of 1 was taken

Constants of one batch size: `free_constants`; a Resize to sizes: `plain_resize`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes.concrete_inference import Inferred
from dfqonnx.graph.passes.edit import get_constant, get_input, set_new_constant
from dfqonnx.graph.passes.free_constants import (
    free_concat,
    get_known_constant,
    shrink_operands,
)
from dfqonnx.graph.passes.plain_resize import make_resize_plain


def free_batch_size(node: ir.Node, inferred: Inferred, *, fixed_batch: int | None) -> list[ir.Node]:
    """Rewrite `node` so that it fits any batch; everything before it is inferred at both sizes.

    Returns the nodes that stand for it, in order, mostly itself.
    """
    shape = inferred[0].shape(get_input(node, 0))
    shrink_operands(node, inferred, fixed_batch=fixed_batch)
    if shape is None:
        return [node]
    if node.op_type == "Concat":
        return free_concat(node, inferred, fixed_batch=fixed_batch)
    if node.op_type == "Reshape" and fixed_batch is not None:
        _free_reshape(node, shape, inferred, fixed_batch=fixed_batch)
    elif node.op_type == "Slice" and fixed_batch is not None:
        _free_slice(node, shape, inferred, fixed_batch=fixed_batch)
    elif node.op_type == "Squeeze":
        _free_squeeze(node, shape, inferred, fixed_batch=fixed_batch)
    elif node.op_type == "Resize":
        return make_resize_plain(node, inferred, fixed_batch=fixed_batch)
    return [node]


def register_constant(inferred: Inferred, value: ir.Value | None) -> None:
    """Make a new constant known at both batch sizes."""
    array = get_constant(value)
    assert value is not None
    assert array is not None
    for known in inferred:
        known.set_constant(value, array)


def _set_integers(node: ir.Node, index: int, numbers: Iterable[int], inferred: Inferred) -> None:
    array = np.array(list(numbers), dtype=np.int64)
    set_new_constant(node, index, array, stem=f"{node.outputs[0].name}/input_{index}")
    register_constant(inferred, node.inputs[index])


def _free_squeeze(
    node: ir.Node, shape: tuple[int, ...], inferred: Inferred, *, fixed_batch: int | None
) -> None:
    """Name the axes of a Squeeze that has none; keep a batch axis that its readers add again.

    In a file that is fixed to one image, a Squeeze without axes takes the batch axis as well.
    """
    single = fixed_batch == 1 and shape[:1] == (inferred[0].batch,)
    axes = get_known_constant(inferred, get_input(node, 1))
    if axes is None:
        if get_input(node, 1) is not None:
            return
        listed = [a for a, d in enumerate(shape) if d == 1 or (single and a == 0)]
    else:
        listed = [int(axis) % len(shape) for axis in axes]
    value = node.outputs[0]
    readers = [reader for reader, _ in value.uses()]
    if single and 0 in listed and readers and not value.is_graph_output():
        added = [_added_axes(reader, inferred, len(shape) - len(listed)) for reader in readers]
        if all(each is not None and 0 in each for each in added):
            listed.remove(0)
            for reader, each in zip(readers, added, strict=True):
                _set_integers(reader, 1, [axis for axis in each or () if axis], inferred)
    if axes is None or len(listed) < len(axes):
        _set_integers(node, 1, listed, inferred)


def _added_axes(node: ir.Node, inferred: Inferred, rank: int) -> list[int] | None:
    """Return the axes that an Unsqueeze of a value of `rank` axes adds; None for other nodes."""
    axes = get_known_constant(inferred, get_input(node, 1)) if node.op_type == "Unsqueeze" else None
    return None if axes is None else [int(axis) % (rank + len(axes)) for axis in axes]


def _free_reshape(
    node: ir.Node, shape: tuple[int, ...], inferred: Inferred, *, fixed_batch: int
) -> None:
    small = inferred[0]
    target, other = (known.constants.get(node.inputs[1]) for known in inferred)
    if node.inputs[0] in small.constants or target is None or other is None:
        return
    if not shape or not target.size or not np.array_equal(target, other):
        return  # computed from the batch: right as it is
    if shape[0] == small.batch and target[0] == fixed_batch:
        _set_integers(node, 1, [0, *target[1:]], inferred)
    elif not (target <= 0).any() and int(np.prod(target)) != int(np.prod(shape)):
        _set_integers(node, 1, [-1, *target[1:]], inferred)


def _free_slice(
    node: ir.Node, shape: tuple[int, ...], inferred: Inferred, *, fixed_batch: int
) -> None:
    """Leave out the batch axis of a Slice that takes all of the batch that the file has."""
    given = [get_known_constant(inferred, get_input(node, index)) for index in range(1, 5)]
    starts, ends, axes, steps = given
    if starts is None or ends is None or not shape or shape[0] != inferred[0].batch:
        return
    listed = range(len(starts)) if axes is None else axes
    at = next((i for i, axis in enumerate(listed) if axis % len(shape) == 0), None)
    if at is None or len(starts) < 2 or not ends[at] >= fixed_batch or starts[at] != 0:
        return
    if steps is not None and steps[at] != 1:
        return
    kept = [i for i in range(len(starts)) if i != at]
    for index, numbers in ((1, starts), (2, ends), (3, listed), (4, steps)):
        if numbers is not None:
            _set_integers(node, index, [int(numbers[i]) for i in kept], inferred)
