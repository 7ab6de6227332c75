"""A last Conv that reads one pixel becomes Flatten -> Gemm -> Reshape.

ONNX Runtime leaves a last Conv without output quantizer in float; a last Gemm runs on integers.

    Conv(x, W, c)  with kernel = image size, no pads, one group
      = Reshape(Gemm(Flatten(x), W as (O, I h w), c), [0, O, 1, 1])
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import (
    constant,
    dims,
    drop,
    initializer,
    integer,
    integers,
    set_constant,
    spatial,
    take_over,
)
from dfqonnx.graph.passes.explicit_padding import kernel_of


def convert_conv_head_to_gemm(model: ir.Model) -> bool:
    """Rewrite each such Conv behind which there is no other weighted node."""
    changed = False
    for node in reversed(list(model.graph)):
        if node.op_type == "Conv" and _sees_one_pixel(node) and _is_last(node):
            changed |= _rewrite(model.graph, node)
    return changed


def _sees_one_pixel(node: ir.Node) -> bool:
    image = spatial(node.inputs[0])
    return (
        image is not None
        and kernel_of(node) == image
        and integer(node, "group", 1) == 1
        and not any(integers(node, "pads") or ())
        and all(d == 1 for d in integers(node, "dilations") or ())
    )


def _is_last(node: ir.Node) -> bool:
    waiting, seen = list(node.successors()), set()
    while waiting:
        other = waiting.pop()
        if other in seen:
            continue
        seen.add(other)
        if has_trait(other.op_type, Trait.WEIGHTED):
            return False
        waiting += other.successors()
    return True


def _rewrite(graph: ir.Graph, node: ir.Node) -> bool:
    source, weight = node.inputs[0], constant(node.inputs[1])
    if weight is None or source is None:
        return False
    stem, outputs = str(node.outputs[0].name), weight.shape[0]
    batch = (dims(source) or ("N",))[0]
    flat = ir.node("Flatten", [source], {"axis": 1}, name=f"{node.name}/flatten")
    gemm = ir.node(
        "Gemm",
        [flat.outputs[0], *node.inputs[1:]],
        {"transB": 1},
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    target = np.array([0, outputs, *(1 for _ in weight.shape[2:])], dtype=np.int64)
    shape = ir.node(
        "Reshape",
        [gemm.outputs[0], initializer(graph, f"{stem}/shape", target)],
        name=f"{node.name}/reshape",
    )
    for new, name, width in ((flat, "flat", weight[0].size), (gemm, "logits", outputs)):
        new.outputs[0].name = f"{stem}/{name}"
        new.outputs[0].shape = ir.Shape([batch, width])
        new.outputs[0].type = source.type
    graph.insert_before(node, [flat, gemm, shape])
    take_over(node.outputs[0], shape.outputs[0])
    drop(node)
    set_constant(gemm, 1, weight.reshape(outputs, -1), stem=f"{stem}/weight")
    return True
