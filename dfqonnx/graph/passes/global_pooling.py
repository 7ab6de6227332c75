"""A mean over the whole image, however written, becomes a GlobalAveragePool.

ReduceMean(x, axes = image axes)                               = GlobalAveragePool(x)
AveragePool(x, kernel = image size, no pads)                   = GlobalAveragePool(x)
ReduceMean(..., keepdims = 0)                                  = Flatten(GlobalAveragePool(x))
ReduceMean(ReduceMean(x, 3), 2), both keepdims = 0             = ReduceMean(x, (2, 3))
ReduceMean(Transpose(x), (1, 2)), channels last, keepdims = 1  = Transpose(GlobalAveragePool(x))
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.explicit_padding import covers_image
from dfqonnx.graph.passes.pass_result import Outcome, node_pass


@node_pass
def convert_to_global_pooling(node: ir.Node) -> Outcome:
    """Rewrite every mean over all image axes."""
    if node.op_type == "AveragePool" and covers_image(node):
        _replace(node, flat=False)
        return True
    if node.op_type != "ReduceMean":
        return False
    _merge_reduce_means(node)
    shape = edit.get_shape(node.inputs[0])
    if shape is None or len(shape) < 3:
        return False
    if edit.is_computed(node, 1):
        return "its axes are computed"
    flat, changed = node.attributes.get_int("keepdims", 1) == 0, False
    axes = edit.get_axes(node, len(shape))
    if axes == tuple(range(1, len(shape) - 1)):
        changed = _read_before_transpose(node, keep_axes=not flat)
        shape = edit.get_shape(node.inputs[0]) or shape
        axes = edit.get_axes(node, len(shape))
    if axes != tuple(range(2, len(shape))):
        return changed
    _replace(node, flat=flat)
    return True


def _merge_reduce_means(node: ir.Node) -> None:
    """Mean over one axis after another: let the last take both from the first one's source."""
    before = edit.get_producer(node)
    if before is None or before.op_type != "ReduceMean":
        return
    shape = edit.get_shape(before.inputs[0])
    if shape is None or len(shape) != 4 or edit.get_only_consumer(before.outputs[0]) is not node:
        return
    if any(n.attributes.get_int("keepdims", 1) for n in (before, node)):
        return
    if edit.get_axes(before, 4) not in {(2,), (3,)} or edit.get_axes(node, 3) != (2,):
        return
    _read_image_axes(node, before.inputs[0], rank=4)
    edit.remove_node(before)


def _read_image_axes(node: ir.Node, source: ir.Value | None, *, rank: int) -> None:
    """Let a ReduceMean read `source` and reduce its image axes."""
    axes = np.arange(2, rank, dtype=np.int64)
    edit.set_input(node, 0, source)
    edit.set_new_constant(node, 1, axes, stem=f"{node.outputs[0].name}/axes")


def _read_before_transpose(node: ir.Node, *, keep_axes: bool) -> bool:
    """Mean over the image axes of N H W C made from N C H W: read the latter.

    Where the mean keeps its axes, its result is transposed instead.
    """
    before, graph, mean = edit.get_producer(node), node.graph, node.outputs[0]
    if before is None or before.op_type != "Transpose" or graph is None:
        return False
    perm, shape = before.attributes.get_ints("perm") or (), edit.get_shape(before.inputs[0])
    rank = len(perm)
    if list(perm) != [0, *range(2, rank), 1]:
        return False
    _read_image_axes(node, before.inputs[0], rank=rank)
    if keep_axes and shape is not None:
        last = ir.node("Transpose", [mean], {"perm": perm}, name=f"{node.name}/transpose")
        graph.insert_after(node, last)
        edit.replace_value(mean, last.outputs[0])
        last.replace_input_with(0, mean)
        edit.set_output(node, f"{last.outputs[0].name}/mean", mean.type, _pool(shape))
    return True


def _pool(shape: edit.Shape) -> edit.Shape:
    """Return the shape of an N C H W value after global pooling: N C 1 1."""
    return (*shape[:2], *(1 for _ in shape[2:]))


def _replace(node: ir.Node, *, flat: bool) -> None:
    shape = edit.get_shape(node.inputs[0])
    assert shape is not None
    pool = edit.derive_node(node, "GlobalAveragePool", node.inputs[:1])
    if not flat:
        edit.replace_node(node, pool)
        return
    old = node.outputs[0]
    edit.set_output(pool, f"{old.name}/pooled", old.type, _pool(shape))
    flatten = ir.node("Flatten", [pool.outputs[0]], {"axis": 1}, name=f"{node.name}/flatten")
    edit.replace_node(node, pool, flatten)
