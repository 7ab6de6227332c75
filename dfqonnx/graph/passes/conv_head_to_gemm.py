"""A last Conv that reads one position becomes Flatten -> Gemm -> Reshape.

ONNX Runtime leaves a last Conv without output quantizer in float; a last Gemm runs on integers.

    Conv(x, W, c)  with kernel = image size, no pads, one group
      = Reshape(Gemm(Flatten(x), W as (O, I h w), c), [0, O, 1, 1])
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.explicit_padding import covers_image
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, rewrite_nodes


def convert_conv_head_to_gemm(model: ir.Model) -> PassResult:
    """Rewrite each such Conv behind which there is no other weighted node."""
    return rewrite_nodes(model, _rewrite, reverse=True)


def _rewrite(node: ir.Node) -> Outcome:
    if node.op_type != "Conv" or not covers_image(node) or not _is_last(node):
        return False
    source, weight, graph = node.inputs[0], edit.get_constant(node.inputs[1]), node.graph
    if (groups := node.attributes.get_int("group", 1)) != 1:
        return f"it works in {groups} groups, and a Gemm has none"
    if weight is None or source is None or graph is None:
        return "its weight is computed"
    stem, outputs = str(node.outputs[0].name), len(weight)
    batch = (edit.get_shape(source) or ("N",))[0]
    flatten = ir.node("Flatten", [source], {"axis": 1}, name=f"{node.name}/flatten")
    gemm = edit.derive_node(node, "Gemm", [flatten.outputs[0], *node.inputs[1:]], {"transB": 1})
    target = np.array([0, outputs, *(1 for _ in weight.shape[2:])], dtype=np.int64)
    target_value = edit.add_initializer(graph, f"{stem}/shape", target)
    reshape = ir.node("Reshape", [gemm.outputs[0], target_value], name=f"{node.name}/reshape")
    edit.set_output(flatten, f"{stem}/flat", source.type, (batch, weight[0].size))
    edit.set_output(gemm, f"{stem}/logits", source.type, (batch, outputs))
    edit.replace_node(node, flatten, gemm, reshape)
    edit.set_constant(gemm, 1, weight.reshape(outputs, -1), stem=f"{stem}/weight")
    return True


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
