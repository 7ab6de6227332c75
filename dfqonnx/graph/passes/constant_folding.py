"""Free the batch, fold constants, give every value its shape.

The graph is walked with two batch sizes (`probe`). A value that is computed from constants and
shapes alone becomes an initializer when both walks agree on it. A Reshape target that grows with
the batch is written with 0 (copy the axis) or -1 (what remains), which fits any batch.

Batch sizes that the exporter baked into nodes are freed on the way (`free_batch_size`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.errors import UnsupportedModel
from dfqonnx.graph.model import BATCH, UNSUPPORTED
from dfqonnx.graph.passes.concrete_inference import ConcreteValues, start, step, walk
from dfqonnx.graph.passes.edit import constant, dims, drop, initializer, set_input
from dfqonnx.graph.passes.free_batch import free_batch_size, know
from dfqonnx.graph.passes.input_sizes import CONCRETE, SIZES, apply_input_sizes

_FEW, _MORE = 5, 7  # the two batch sizes


def fold_constants(model: ir.Model, *, fixed_batch: int | None = None) -> bool:
    """Fold constants and set shapes; `fixed_batch` is the size baked into the file."""
    version = model.graph.opset_imports[""]
    try:
        few, more = _walk_both(model, version, fixed_batch)
    except UnsupportedModel:
        if not model.graph.inputs[0].meta[SIZES].free:
            raise
        apply_input_sizes(model)  # the file declares open axes, but its graph takes one size only
        few, more = _walk_both(model, version, fixed_batch)
    changed = _replace_constants(model.graph, few, more)
    for node in model.graph:
        if node.op_type == "Reshape":
            changed |= _rewrite_target(model.graph, node, few, more)
    for value in [*model.graph.inputs, *(o for n in model.graph for o in n.outputs)]:
        _set_type(value, few, more)
    return changed


def _walk_both(
    model: ir.Model, version: int, fixed_batch: int | None
) -> tuple[ConcreteValues, ConcreteValues]:
    """Walk with both batch sizes, both image sizes; a node that fits no batch is noted as opaque.

    Raises:
        UnsupportedModel: the shapes do not fit, at the batch that the file is fixed to either.
    """
    sizes = model.graph.inputs[0].meta[SIZES]
    few, more = start(model, _FEW, sizes.chosen), start(model, _MORE, sizes.other)
    own: ConcreteValues | None = None
    for node in list(model.graph):
        free_batch_size(node, few, more, fixed_batch=fixed_batch)
        try:
            step(few, node, version)
            step(more, node, version)
        except UnsupportedModel as error:
            if fixed_batch is None:
                raise
            if own is None:
                own = start(model, fixed_batch, sizes.chosen)
                walk(own, model.graph, version)  # raises where the file itself does not fit
            reason = error.offenses[0].reason
            node.meta[UNSUPPORTED] = f"it fits a batch of {fixed_batch} only ({reason})"
            for probe in (few, more):
                for value in node.outputs:
                    probe.types.pop(value, None)
                    probe.constants.pop(value, None)
    return few, more


def _replace_constants(graph: ir.Graph, few: ConcreteValues, more: ConcreteValues) -> bool:
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
            know((few, more), new)
        drop(node)
        changed = True
    return changed


def _same(few: ConcreteValues, more: ConcreteValues, value: ir.Value) -> NDArray[Any] | None:
    one, two = few.constants.get(value), more.constants.get(value)
    if one is None or two is None or one.shape != two.shape:
        return None
    return one if np.array_equal(one, two, equal_nan=one.dtype.kind == "f") else None


def _rewrite_target(
    graph: ir.Graph, node: ir.Node, few: ConcreteValues, more: ConcreteValues
) -> bool:
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


def _set_type(value: ir.Value, few: ConcreteValues, more: ConcreteValues) -> None:
    one, two = few.shape(value), more.shape(value)
    dtype = few.dtype(value)
    if dtype:
        value.type = ir.TensorType(ir.DataType(dtype))
    if one is not None and two is not None and len(one) == len(two):
        value.shape = ir.Shape([_dim(a, b) for a, b in zip(one, two, strict=True)])
        value.meta[CONCRETE] = tuple(
            d if isinstance(d, str) else a for d, a in zip(dims(value) or (), one, strict=True)
        )


def _dim(a: int, b: int) -> int | str | None:
    if a == b:
        return a
    times, rest = divmod(a, _FEW)
    if not rest and b == times * _MORE:
        return BATCH if times == 1 else f"{times}*{BATCH}"
    return None
