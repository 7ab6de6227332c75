"""BatchNormalization: read, folded into the layer before it, or turned into a depthwise Conv.

    y = a x + b        a = gamma / sqrt(var + eps)        b = beta - a mu            per channel

After a Conv or Gemm that nobody else reads, with weight W and bias c:   W' = a W,  c' = a c + b.
A left-over one (pre-activation networks) is a depthwise 1x1 Conv with weight a and bias b, so that
an integer runtime can run it.

On its training data the output has mean beta and variance gamma^2 var / (var + eps).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.core.quantization_plan import ChannelStatistics
from dfqonnx.graph.model import BatchNormState
from dfqonnx.graph.passes.channel_affine import convert_to_depthwise, scale_layer
from dfqonnx.graph.passes.edit import (
    STATISTICS,
    constant,
    dims,
    drop,
    only_consumer,
    real,
    spatial,
    take_over,
)

Array = NDArray[Any]


def read_batchnorms(model: ir.Model) -> int:
    """Attach statistics to the output of every BatchNormalization; return how many there are."""
    count = 0
    for node in model.graph:
        if node.op_type != "BatchNormalization":
            continue
        count += 1
        parts = _parameters(node)
        if parts is not None:
            gamma, beta, _, var = parts  # each (C,)
            spread = gamma**2 * var / (var + real(node, "epsilon", 1e-5))
            node.outputs[0].meta[STATISTICS] = ChannelStatistics(
                beta.astype(np.float32), spread.astype(np.float32)
            )
    return count


def batchnorm_state(model: ir.Model) -> BatchNormState:
    """Judge whether the exporter folded some of the BatchNormalization away.

    A Conv that carries a bias, works on an image (not on pooled features) and is not followed by a
    BatchNormalization is taken as the trace of a folded one.
    """
    nodes = list(model.graph)
    if not any(n.op_type == "BatchNormalization" for n in nodes):
        return "absent"
    for node in nodes:
        if node.op_type != "Conv" or len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        bias = constant(node.inputs[2])
        pooled = all(d == 1 for d in spatial(node.outputs[0]) or ())
        reader = only_consumer(node.outputs[0])
        followed = reader is not None and reader.op_type == "BatchNormalization"
        if bias is not None and bias.any() and not pooled and not followed:
            return "partly"
    return "present"


def fold_batchnorms(model: ir.Model) -> bool:
    """Fold each BatchNormalization into the Conv or Gemm before it."""
    changed = False
    for node in list(model.graph):
        if node.op_type != "BatchNormalization" or node.inputs[0] is None:
            continue
        layer, parts = node.inputs[0].producer(), _parameters(node)
        if layer is None or parts is None or only_consumer(layer.outputs[0]) is not node:
            continue
        factor, offset = _affine(node, parts)
        if scale_layer(layer, factor, offset):
            take_over(node.outputs[0], layer.outputs[0])
            drop(node)
            changed = True
    return changed


def convert_leftovers(model: ir.Model) -> bool:
    """Turn every remaining BatchNormalization into a depthwise 1x1 Conv."""
    changed = False
    for node in list(model.graph):
        parts = _parameters(node) if node.op_type == "BatchNormalization" else None
        if parts is not None and dims(node.inputs[0]) is not None:
            changed |= convert_to_depthwise(node, *_affine(node, parts))
    return changed


def _parameters(node: ir.Node) -> tuple[Array, Array, Array, Array] | None:
    arrays = [constant(i) for i in node.inputs[1:5]]
    if len(arrays) != 4 or any(a is None for a in arrays):
        return None
    gamma, beta, mu, var = (np.asarray(a, dtype=np.float64) for a in arrays)
    return gamma, beta, mu, var


def _affine(node: ir.Node, parts: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
    gamma, beta, mu, var = parts
    factor = gamma / np.sqrt(var + real(node, "epsilon", 1e-5))
    return factor, beta - factor * mu
