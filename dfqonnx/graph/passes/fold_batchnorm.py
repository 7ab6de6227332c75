"""BatchNormalization: read, folded into the layer before it, or turned into a depthwise Conv.

    y = a x + b        a = gamma / sqrt(var + eps)        b = beta - a mu            per channel

After a Conv or Gemm that nobody else reads, with weight W and bias c:   W' = a W,  c' = a c + b.
Any other one (pre-activation networks) becomes a depthwise 1x1 Conv with weight a and bias b, so
that an integer runtime can run it.

On its training data the output has mean beta and variance gamma^2 var / (var + eps).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.graph.model import BatchNormState
from dfqonnx.graph.passes import edit
from dfqonnx.graph.passes.channel_affine import convert_to_depthwise, fold_into_layer
from dfqonnx.graph.passes.input_sizes import get_concrete_shape
from dfqonnx.graph.passes.pass_result import Outcome, PassResult, node_pass

BATCHNORMS = "dfqonnx.batchnorms"  # key in `Model.meta`: state and number of BatchNormalization
Array = NDArray[Any]


def record_batchnorms(model: ir.Model) -> PassResult:
    """Note the statistics of every BatchNormalization at its output, state and number at the model.

    This has to run before any of them is folded.
    """
    nodes = [node for node in model.graph if node.op_type == "BatchNormalization"]
    for node in nodes:
        parts = _get_parameters(node)
        if parts is not None:
            _, beta, _, var = parts  # each (C,)
            gain, _ = _to_affine(node, parts)
            node.outputs[0].meta[edit.STATISTICS] = ChannelStatistics(
                beta.astype(np.float32),
                (gain**2 * var).astype(np.float32),
                gain.astype(np.float32),
            )
    model.meta[BATCHNORMS] = (_judge_state(model) if nodes else "absent", len(nodes))
    return PassResult(modified=False)


def _judge_state(model: ir.Model) -> BatchNormState:
    """Judge whether the exporter folded some of the BatchNormalization away.

    A Conv that carries a bias, works on an image (not on pooled features) and is not followed by a
    BatchNormalization is taken as the trace of a folded one.
    """
    for node in model.graph:
        bias = edit.get_constant_input(node, 2) if node.op_type == "Conv" else None
        reader = edit.get_only_consumer(node.outputs[0])
        followed = reader is not None and reader.op_type == "BatchNormalization"
        on_image = any(d != 1 for d in (get_concrete_shape(node.outputs[0]) or ())[2:])
        if bias is not None and bias.any() and not followed and on_image:
            return "partly"
    return "present"


@node_pass
def fold_batchnorms(node: ir.Node) -> Outcome:
    """Fold each BatchNormalization into the Conv or Gemm before it."""
    source = node.inputs[0] if node.op_type == "BatchNormalization" else None
    if source is None:
        return False
    if (parts := _get_parameters(node)) is None:
        return "its parameters are computed"
    return fold_into_layer(node, source, *_to_affine(node, parts))


@node_pass
def convert_batchnorms(node: ir.Node) -> Outcome:
    """Turn every remaining BatchNormalization into a depthwise 1x1 Conv."""
    parts = _get_parameters(node) if node.op_type == "BatchNormalization" else None
    if parts is None or edit.get_shape(node.inputs[0]) is None:
        return False
    return convert_to_depthwise(node, *_to_affine(node, parts))


def _get_parameters(node: ir.Node) -> tuple[Array, Array, Array, Array] | None:
    """Return gamma, beta, mean and variance in double precision; None where one is computed."""
    arrays = [edit.get_constant(i) for i in node.inputs[1:5]]
    if len(arrays) != 4 or any(a is None for a in arrays):
        return None
    gamma, beta, mu, var = (np.asarray(a, dtype=np.float64) for a in arrays)
    return gamma, beta, mu, var


def _to_affine(node: ir.Node, parts: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
    gamma, beta, mu, var = parts
    factor = gamma / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    return factor, beta - factor * mu
