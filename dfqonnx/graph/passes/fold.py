"""Free the batch, fold constants, give every value its shape.

The graph is walked with two batch sizes (`probe`). A value that is computed from constants and
shapes alone becomes an initializer when both walks agree on it. A Reshape target that grows with
the batch is written with 0 (copy the axis) or -1 (what remains), which fits any batch.

A model that its exporter fixed to one batch size has that size baked into Reshape targets: there a
leading entry equal to it, or one that no longer fits the number of elements, is freed likewise. In
row-major order this stacks the images of a batch on the leading axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.model import BATCH
from dfqonnx.graph.passes.edit import constant, drop, initializer, set_input
from dfqonnx.graph.passes.probe import Probe, start, step

_FEW, _MORE = 5, 7  # the two batch sizes


def fold(model: ir.Model, *, fixed_batch: int | None = None) -> bool:
    """Fold constants and set shapes; `fixed_batch` is the size baked into the file."""
    version = model.graph.opset_imports[""]
    few, more = start(model, _FEW), start(model, _MORE)
    for node in list(model.graph):
        if node.op_type == "Reshape" and fixed_batch is not None:
            _free_target(model.graph, node, few, more, fixed_batch=fixed_batch)
        step(few, node, version)
        step(more, node, version)
        if node.op_type == "Squeeze" and len(node.inputs) == 1:
            _name_axes(model.graph, node, few, more)
            step(few, node, version)
            step(more, node, version)
    changed = _replace_constants(model.graph, few, more)
    for node in model.graph:
        if node.op_type == "Reshape":
            changed |= _rewrite_target(model.graph, node, few, more)
    for value in [*model.graph.inputs, *(o for n in model.graph for o in n.outputs)]:
        _set_type(value, few, more)
    return changed


def _know(probes: tuple[Probe, ...], value: ir.Value) -> ir.Value:
    array = constant(value)
    assert array is not None
    for probe in probes:
        probe.set_constant(value, array)
    return value


def _free_target(
    graph: ir.Graph, node: ir.Node, few: Probe, more: Probe, *, fixed_batch: int
) -> None:
    target, shape = few.constants.get(node.inputs[1]), few.shape(node.inputs[0])  # type: ignore[arg-type]
    if target is None or shape is None or not target.size or node.inputs[0] in few.constants:
        return
    other = more.constants.get(node.inputs[1])  # type: ignore[arg-type]
    if other is None or not np.array_equal(target, other):
        return  # computed from the batch: right as it is
    new = target.copy()
    wanted, fits = int(np.prod(shape)), int(np.prod(target[target > 0]))
    if shape[0] == few.batch and target[0] == fixed_batch:
        new[0] = 0
    elif not (target <= 0).any() and fits != wanted:
        new[0] = -1
    else:
        return
    value = initializer(graph, f"{node.outputs[0].name}/shape", new)
    set_input(node, 1, _know((few, more), value))


def _name_axes(graph: ir.Graph, node: ir.Node, few: Probe, more: Probe) -> None:
    """Squeeze without axes would also drop the batch axis of a single image."""
    shape = few.shape(node.inputs[0])
    if shape is not None:
        axes = np.array([a for a, d in enumerate(shape) if d == 1], dtype=np.int64)
        value = initializer(graph, f"{node.outputs[0].name}/axes", axes)
        set_input(node, 1, _know((few, more), value))


def _replace_constants(graph: ir.Graph, few: Probe, more: Probe) -> bool:
    changed = False
    for node in list(graph):
        if any(o.is_graph_output() for o in node.outputs):
            continue
        arrays = [_same(few, more, o) for o in node.outputs]
        if not arrays or any(a is None for a in arrays):
            continue
        for value, array in zip(node.outputs, arrays, strict=True):
            assert array is not None
            name = value.name
            value.name = f"{name}/folded"
            new = initializer(graph, str(name), array)
            value.replace_all_uses_with(new)
            _know((few, more), new)
        drop(node)
        changed = True
    return changed


def _same(few: Probe, more: Probe, value: ir.Value) -> NDArray[Any] | None:
    one, two = few.constants.get(value), more.constants.get(value)
    if one is None or two is None or one.shape != two.shape:
        return None
    return one if np.array_equal(one, two, equal_nan=one.dtype.kind == "f") else None


def _rewrite_target(graph: ir.Graph, node: ir.Node, few: Probe, more: Probe) -> bool:
    target = node.inputs[1]
    out_few, out_more = few.shape(node.outputs[0]), more.shape(node.outputs[0])
    if target is None or constant(target) is not None or out_few is None or out_more is None:
        return False
    source_few, source_more = few.shape(node.inputs[0]), more.shape(node.inputs[0])
    new: list[int] = []
    for axis, (a, b) in enumerate(zip(out_few, out_more, strict=True)):
        copied = (
            source_few is not None
            and source_more is not None
            and axis < len(source_few)
            and (source_few[axis], source_more[axis]) == (a, b)
        )
        new.append(a if a == b else 0 if copied else -1)
    if new.count(-1) > 1:
        return False
    value = initializer(graph, f"{node.outputs[0].name}/shape", np.array(new, dtype=np.int64))
    set_input(node, 1, value)
    return True


def _set_type(value: ir.Value, few: Probe, more: Probe) -> None:
    one, two = few.shape(value), more.shape(value)
    dtype = few.dtype(value)
    if dtype:
        value.type = ir.TensorType(ir.DataType(dtype))
    if one is not None and two is not None and len(one) == len(two):
        value.shape = ir.Shape([_dim(a, b) for a, b in zip(one, two, strict=True)])


def _dim(a: int, b: int) -> int | str | None:
    if a == b:
        return a
    times, rest = divmod(a, _FEW)
    if not rest and b == times * _MORE:
        return BATCH if times == 1 else f"{times}*{BATCH}"
    return None
