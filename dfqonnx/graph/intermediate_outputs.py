"""The normalized graph with more outputs, as bytes that a runtime loads: what happens inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant


@dataclass(frozen=True)
class FirstLayer:
    """The first weighted layer with a bias."""

    output: str  # name of the value before any activation
    bias: NDArray[np.float32]  # float32, one per output channel


def expose_intermediate_outputs(model: NormalizedModel, names: Iterable[str]) -> bytes:
    """Return what computes the values `names` as an ONNX file with exactly these outputs."""
    wanted = list(dict.fromkeys(names))
    proto: onnx.ModelProto = ir.to_proto(model.ir)
    needed = set(wanted)
    nodes: list[onnx.NodeProto] = []
    for node in reversed(proto.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.insert(0, node)
    graph = onnx.helper.make_graph(
        nodes,
        proto.graph.name,
        proto.graph.input,
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in wanted],
        [tensor for tensor in proto.graph.initializer if tensor.name in needed],
    )
    made = onnx.helper.make_model(
        graph, opset_imports=proto.opset_import, ir_version=proto.ir_version
    )
    return bytes(made.SerializeToString())


def find_first_layer(model: NormalizedModel) -> FirstLayer | None:
    """Return the first Conv or Gemm; None where it has no bias that says anything."""
    for node in model.ir.graph:
        if not has_trait(node.op_type, Trait.LAYER) or len(node.inputs) < 3:
            continue
        bias = get_constant(node.inputs[2])
        name = node.outputs[0].name
        if bias is None or name is None or bias.size < 2 or not bias.any():
            return None
        return FirstLayer(name, bias.astype(np.float32).ravel())
    return None
