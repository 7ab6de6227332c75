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
from dfqonnx.graph.passes.edit import constant, initializer, set_input


def free_batch_size(
    node: ir.Node, few: ConcreteValues, more: ConcreteValues, *, fixed_batch: int | None
) -> None:
    """Rewrite `node` so that it fits any batch; the probes know everything before it."""
    if node.op_type == "Reshape" and fixed_batch is not None:
        _free_target(node, few, more, fixed_batch=fixed_batch)
    elif node.op_type == "Squeeze" and len(node.inputs) == 1:
        _name_axes(node, few, more)
    elif node.op_type == "Resize" and len(node.inputs) > 3 and "axes" not in node.attributes:
        _keep_batch(node, few, more)


def know(probes: Iterable[ConcreteValues], value: ir.Value) -> ir.Value:
    """Tell the probes of a new constant."""
    array = constant(value)
    assert array is not None
    for probe in probes:
        probe.set_constant(value, array)
    return value


def _set_integers(
    node: ir.Node, index: int, numbers: Iterable[int], probes: tuple[ConcreteValues, ConcreteValues]
) -> None:
    assert node.graph is not None
    array = np.array(list(numbers), dtype=np.int64)
    value = initializer(node.graph, f"{node.outputs[0].name}/input_{index}", array)
    set_input(node, index, know(probes, value))


def _free_target(
    node: ir.Node, few: ConcreteValues, more: ConcreteValues, *, fixed_batch: int
) -> None:
    source, wanted = node.inputs[0], node.inputs[1]
    if source is None or wanted is None or source in few.constants:
        return
    target, other = few.constants.get(wanted), more.constants.get(wanted)
    shape = few.shape(source)
    if target is None or other is None or not shape or not target.size:
        return
    if not np.array_equal(target, other):
        return  # computed from the batch: right as it is
    if shape[0] == few.batch and target[0] == fixed_batch:
        _set_integers(node, 1, [0, *target[1:]], (few, more))
    elif not (target <= 0).any() and int(np.prod(target)) != int(np.prod(shape)):
        _set_integers(node, 1, [-1, *target[1:]], (few, more))


def _name_axes(node: ir.Node, few: ConcreteValues, more: ConcreteValues) -> None:
    shape = few.shape(node.inputs[0])
    if shape is not None:
        _set_integers(node, 1, [a for a, d in enumerate(shape) if d == 1], (few, more))


def _keep_batch(node: ir.Node, few: ConcreteValues, more: ConcreteValues) -> None:
    """Name the image axes where batch and channels are not resized."""
    source, wanted = node.inputs[0], node.inputs[3]
    if source is None or wanted is None:
        return
    sizes, other, shape = few.constants.get(wanted), more.constants.get(wanted), few.shape(source)
    if sizes is None or other is None or shape is None or len(shape) != len(sizes):
        return
    if len(shape) < 3 or not np.array_equal(sizes[1:], other[1:]) or sizes[1] != shape[1]:
        return
    _set_integers(node, 3, sizes[2:], (few, more))
    node.attributes["axes"] = ir.AttrInt64s("axes", list(range(2, len(shape))))
