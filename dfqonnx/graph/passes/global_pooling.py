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

from dfqonnx.graph.passes.edit import (
    axes_of,
    dims,
    drop,
    initializer,
    integer,
    integers,
    only_consumer,
    set_input,
    spatial,
    take_over,
)


def convert_to_global_pooling(model: ir.Model) -> bool:
    """Rewrite every mean over all image axes."""
    changed = False
    for node in list(model.graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type == "ReduceMean" and _join_steps(node):
            source = node.inputs[0]
        shape = dims(source)
        if shape is None or len(shape) < 3:
            continue
        if node.op_type == "ReduceMean":
            flat, axes = integer(node, "keepdims", 1) == 0, axes_of(node, len(shape))
            if axes == tuple(range(1, len(shape) - 1)):
                changed |= _read_before_transpose(node, kept=not flat)
                axes, shape = axes_of(node, len(shape)), dims(node.inputs[0]) or shape
            if axes == tuple(range(2, len(shape))):
                _rewrite(model.graph, node, flat=flat)
                changed = True
        elif node.op_type == "AveragePool" and _covers(node):
            _rewrite(model.graph, node, flat=False)
            changed = True
    return changed


def _join_steps(node: ir.Node) -> bool:
    """Mean over one axis after another: let the last take both from the first one's source."""
    source, graph = node.inputs[0], node.graph
    before = source.producer() if source is not None else None
    if source is None or before is None or before.op_type != "ReduceMean" or graph is None:
        return False
    shape = dims(before.inputs[0])
    if shape is None or len(shape) != 4 or only_consumer(source) is not node:
        return False
    if any(integer(n, "keepdims", 1) for n in (before, node)):
        return False
    if axes_of(before, 4) not in {(2,), (3,)} or axes_of(node, 3) != (2,):
        return False
    set_input(node, 0, before.inputs[0])
    axes = np.array([2, 3], dtype=np.int64)
    set_input(node, 1, initializer(graph, f"{node.outputs[0].name}/axes", axes))
    drop(before)
    return True


def _read_before_transpose(node: ir.Node, *, kept: bool) -> bool:
    """Mean over the image axes of N H W C made from N C H W: read the latter.

    Where it keeps its axes, its result is turned instead.
    """
    source, graph = node.inputs[0], node.graph
    before = source.producer() if source is not None else None
    if before is None or before.op_type != "Transpose" or graph is None:
        return False
    rank = len(integers(before, "perm") or ())
    if integers(before, "perm") != (0, *range(2, rank), 1):
        return False
    axes = np.arange(2, rank, dtype=np.int64)
    set_input(node, 0, before.inputs[0])
    set_input(node, 1, initializer(graph, f"{node.outputs[0].name}/axes", axes))
    if kept:
        _turn(graph, node, before)
    return True


def _turn(graph: ir.Graph, node: ir.Node, like: ir.Node) -> None:
    """Put a Transpose as `like` behind the node, whose result becomes N C 1 1."""
    shape, mean = dims(like.inputs[0]), node.outputs[0]
    assert shape is not None
    last = ir.node("Transpose", [mean], {"perm": like.attributes["perm"].as_ints()})
    last.name = f"{node.name}/transpose"
    graph.insert_after(node, last)
    take_over(mean, last.outputs[0])
    last.replace_input_with(0, mean)
    mean.name = f"{last.outputs[0].name}/mean"
    mean.shape = ir.Shape([*shape[:2], *(1 for _ in shape[2:])])


def _covers(node: ir.Node) -> bool:
    image = spatial(node.inputs[0])
    whole = image is not None and integers(node, "kernel_shape") == image
    return (
        whole
        and not any(integers(node, "pads") or ())
        and "auto_pad" not in node.attributes
        and all(d == 1 for d in integers(node, "dilations") or ())
        and not integer(node, "ceil_mode", 0)
    )


def _rewrite(graph: ir.Graph, node: ir.Node, *, flat: bool) -> None:
    source, shape = node.inputs[0], dims(node.inputs[0])
    assert shape is not None
    pool = ir.node(
        "GlobalAveragePool",
        [source],
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    last = pool
    graph.insert_before(node, pool)
    if flat:
        pooled = pool.outputs[0]
        pooled.name = f"{node.outputs[0].name}/pooled"
        pooled.shape = ir.Shape([*shape[:2], *(1 for _ in shape[2:])])
        pooled.type = node.outputs[0].type
        last = ir.node("Flatten", [pooled], {"axis": 1}, name=f"{node.name}/flatten")
        graph.insert_before(node, last)
    take_over(node.outputs[0], last.outputs[0])
    drop(node)
