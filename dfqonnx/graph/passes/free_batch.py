"""Free nodes of a batch size that the exporter wrote into them.

Reshape(x, [1, 192])          -> [0, 192]     a leading entry equal to the fixed batch: copy it
Reshape(x, [58, 2, 1936])     -> [-1, 2, 1936] one that no longer fits: images stack on axis 0
Squeeze(x)                    -> Squeeze(x, axes), else a single image would lose its batch axis
Resize(x, sizes=[1, C, h, w]) -> Resize(x, sizes=[h, w], axes=[2, 3])
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes.concrete_inference import ConcreteValues
from dfqonnx.graph.passes.edit import get_constant, get_input, set_new_constant


def free_batch_size(
    node: ir.Node, small: ConcreteValues, large: ConcreteValues, *, fixed_batch: int | None
) -> None:
    """Rewrite `node` so that it fits any batch; everything before it is inferred at both sizes."""
    if node.op_type == "Reshape" and fixed_batch is not None:
        _free_reshape(node, small, large, fixed_batch=fixed_batch)
    elif node.op_type == "Squeeze" and len(node.inputs) == 1:
        shape = small.shape(node.inputs[0])
        if shape is not None:
            _set_integers(node, 1, [a for a, d in enumerate(shape) if d == 1], (small, large))
    elif node.op_type == "Resize" and "axes" not in node.attributes:
        _free_resize(node, small, large)


def register_constant(inferred: Iterable[ConcreteValues], value: ir.Value | None) -> None:
    """Make a new constant known at every batch size."""
    array = get_constant(value)
    assert value is not None
    assert array is not None
    for known in inferred:
        known.set_constant(value, array)


def _set_integers(
    node: ir.Node, index: int, numbers: Iterable[int], inferred: Iterable[ConcreteValues]
) -> None:
    array = np.array(list(numbers), dtype=np.int64)
    set_new_constant(node, index, array, stem=f"{node.outputs[0].name}/input_{index}")
    register_constant(inferred, node.inputs[index])


def _free_reshape(
    node: ir.Node, small: ConcreteValues, large: ConcreteValues, *, fixed_batch: int
) -> None:
    source, wanted = node.inputs[0], node.inputs[1]
    if source is None or wanted is None or source in small.constants:
        return
    target, other = small.constants.get(wanted), large.constants.get(wanted)
    shape = small.shape(source)
    if target is None or other is None or not shape or not target.size:
        return
    if not np.array_equal(target, other):
        return  # computed from the batch: right as it is
    if shape[0] == small.batch and target[0] == fixed_batch:
        _set_integers(node, 1, [0, *target[1:]], (small, large))
    elif not (target <= 0).any() and int(np.prod(target)) != int(np.prod(shape)):
        _set_integers(node, 1, [-1, *target[1:]], (small, large))


def _free_resize(node: ir.Node, small: ConcreteValues, large: ConcreteValues) -> None:
    """Name the image axes where batch and channels are not resized."""
    source, wanted = node.inputs[0], get_input(node, 3)
    if source is None or wanted is None:
        return
    sizes, other = small.constants.get(wanted), large.constants.get(wanted)
    shape = small.shape(source)
    if sizes is None or other is None or shape is None or len(shape) != len(sizes):
        return
    if len(shape) < 3 or not np.array_equal(sizes[1:], other[1:]) or sizes[1] != shape[1]:
        return
    _set_integers(node, 3, sizes[2:], (small, large))
    node.attributes["axes"] = ir.AttrInt64s("axes", list(range(2, len(shape))))
