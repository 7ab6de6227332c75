"""Free the batch, fold constants, give every value its shape.

The graph is inferred at two batch sizes (`concrete_inference`). A value that is computed from
constants and shapes alone becomes an initializer when both agree on it. A Reshape target that grows
with the batch is written with 0 (copy the axis) or -1 (what remains), which fits any batch.

Batch sizes that the exporter wrote into nodes are freed on the way (`free_batch_size`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.model import BATCH, UNSUPPORTED
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.concrete_inference import Inferred, infer_node, start_inference
from dfqonnx.graph.passes.free_batch import free_batch_size, register_constant
from dfqonnx.graph.passes.free_constants import get_known_constant
from dfqonnx.graph.passes.input_sizes import CONCRETE, SIZES, fix_open_axes
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, rewrite_nodes

_SMALL, _LARGE = 5, 7  # the two batch sizes
_SMALL_BYTES, _VECTOR_BYTES = 2**10, 2**16  # results up to this size are always stored


def fold_constants(model: ir.Model) -> PassResult:
    """Fold constants and set shapes."""
    try:
        inferred = _infer_at_two_sizes(model)
    except UnsupportedModel:
        if not model.graph.inputs[0].meta[SIZES].open_axes:
            raise
        fix_open_axes(model)  # the file declares open axes, but its graph takes one size only
        inferred = _infer_at_two_sizes(model)
    stored: dict[ir.Value | None, int] = {}
    result = rewrite_nodes(
        model,
        lambda node: _replace_by_constants(node, inferred, stored),
        lambda node: _free_target(node, inferred),
    )
    for value in [*model.graph.inputs, *(o for n in model.graph for o in n.outputs)]:
        _set_type(value, inferred)
    return result


def _infer_at_two_sizes(model: ir.Model) -> Inferred:
    """Infer with both batch sizes, both image sizes; a node that fits no batch is unsupported.

    The model is refused where its shapes do not fit at the batch that the file is fixed to either.
    """
    version, sizes = model.graph.opset_imports[""], model.graph.inputs[0].meta[SIZES]
    small = start_inference(model, _SMALL, sizes.chosen)
    large = start_inference(model, _LARGE, sizes.other)
    checked = False
    for node in _free_nodes(model, (small, large), fixed_batch=sizes.fixed_batch):
        try:
            infer_node(small, node, version)
            infer_node(large, node, version)
            _check_weight(node, (small, large))
        except UnsupportedModel as error:
            if sizes.fixed_batch is None:
                raise
            if not checked:
                at_fixed_batch = start_inference(model, sizes.fixed_batch, sizes.chosen)
                for each in model.graph:  # raises where the file itself does not fit
                    infer_node(at_fixed_batch, each, version)
                checked = True
            reason = error.offenses[0].reason
            node.meta[UNSUPPORTED] = f"it fits a batch of {sizes.fixed_batch} only ({reason})"
            for known in (small, large):
                known.forget(node.outputs)
    return small, large


def _check_weight(node: ir.Node, inferred: Inferred) -> None:
    """Refuse a Conv whose weight an image brings along: its channels count the images."""
    if not has_trait(node.op_type, Trait.WINDOWED) or len(node.inputs) < 2:
        return
    small, large = (known.shape(node.inputs[1]) for known in inferred)
    if small is not None and large is not None and small[0] != large[0]:
        reason = "its weight is computed from every image anew"
        offense = Offense(edit.get_node_name(node), node.op_type, reason, "export it without")
        raise UnsupportedModel("the weights of this model are computed:", [offense])


def _free_nodes(
    model: ir.Model, inferred: Inferred, *, fixed_batch: int | None
) -> Iterator[ir.Node]:
    """Yield every node once it fits any batch; what is before it has to be inferred by then."""
    for node in list(model.graph):
        yield from free_batch_size(node, inferred, fixed_batch=fixed_batch)


def _replace_by_constants(
    node: ir.Node, inferred: Inferred, stored: dict[ir.Value | None, int]
) -> bool:
    found = [get_known_constant(inferred, o) for o in node.outputs if not o.is_graph_output()]
    arrays = [array for array in found if array is not None]
    if not arrays or len(arrays) < len(node.outputs) or node.graph is None:
        return False
    if any(v.uses() for v in node.outputs) and not _may_fold(node, arrays, stored):
        return False
    for value, array in zip(node.outputs, arrays, strict=True):
        name = str(value.name)
        value.name = f"{name}/folded"
        new = edit.add_initializer(node.graph, name, array)
        value.replace_all_uses_with(new)
        register_constant(inferred, new)
    edit.remove_node(node)
    return True


def _may_fold(
    node: ir.Node, arrays: list[NDArray[Any]], stored: dict[ir.Value | None, int]
) -> bool:
    """Tell whether the results may be stored; `stored` has the bytes behind those that are not.

    A weight has to be a constant. Anything else may not make the file larger: an Expand or a Tile
    stays a node, which a runtime computes when it loads the file.
    """
    before = 0
    for value in {i for i in node.inputs if i is not None}:
        array = edit.get_constant(value)
        before += stored.get(value, 0) if array is None else array.nbytes
    after = sum(array.nbytes for array in arrays)
    vectors = all(array.ndim < 2 for array in arrays)
    readers = [use for value in node.outputs for use in value.uses()]
    if (
        after <= max(before, _VECTOR_BYTES if vectors else _SMALL_BYTES)
        or has_trait(node.op_type, Trait.CODES)
        or any(has_trait(n.op_type, Trait.WEIGHTED) and index for n, index in readers)
    ):
        return True
    stored.update(dict.fromkeys(node.outputs, before))
    return False


def _free_target(node: ir.Node, inferred: Inferred) -> Outcome:
    """Write the computed target of a Reshape as a constant that fits any batch."""
    target = node.inputs[1] if node.op_type == "Reshape" else None
    if target is None or edit.get_constant(target) is not None:
        return False
    small, large = (known.shape(node.outputs[0]) for known in inferred)
    sources = [known.shape(node.inputs[0]) or () for known in inferred]
    if small is None or large is None:
        return False
    copied = [*zip(*sources, strict=False)]  # sizes of the input's axes, small and large
    new = [
        a if a == b else 0 if copied[axis : axis + 1] == [(a, b)] else -1
        for axis, (a, b) in enumerate(zip(small, large, strict=True))
    ]
    if new.count(-1) > 1:
        return "several axes of its target change with the batch or the image size"
    array = np.array(new, dtype=np.int64)
    edit.set_new_constant(node, 1, array, stem=f"{node.outputs[0].name}/shape")
    return True


def _set_type(value: ir.Value, inferred: Inferred) -> None:
    small, large = (known.shape(value) for known in inferred)
    dtype = inferred[0].dtype(value)
    if dtype:
        value.type = ir.TensorType(ir.DataType(dtype))
    if small is not None and large is not None and len(small) == len(large):
        shape = [_to_dimension(a, b) for a, b in zip(small, large, strict=True)]
        value.shape = ir.Shape(shape)
        value.meta[CONCRETE] = tuple(
            d if isinstance(d, str) else a for d, a in zip(shape, small, strict=True)
        )


def _to_dimension(small: int, large: int) -> int | str | None:
    """Return an axis in terms of the batch N; None where it depends on something else."""
    if small == large:
        return small
    times, rest = divmod(small, _SMALL)
    if not rest and large == times * _LARGE:
        return BATCH if times == 1 else f"{times}*{BATCH}"
    return None
