"""The last layers in front of a network's outputs, and a file that shows their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant


@dataclass(frozen=True, kw_only=True)
class LastLayer:
    """A layer with constant weights that no other such layer is behind.

    Attributes:
        node: its name.
        output: the output that it is in front of; the first of several.
        read, value: names of what it reads and of what it gives.
        power: the squared weights, summed over positions: (I, O), inputs to outputs.
        is_convolution: whether channels are on the second axis, not the last.
    """

    node: str
    output: str
    read: str
    value: str
    power: NDArray[np.float64]
    is_convolution: bool


def find_last_layers(model: NormalizedModel) -> Iterator[LastLayer]:
    """Yield the last layers in front of each output."""
    known: set[str | None] = set()
    for output in model.ir.graph.outputs:
        waiting = [output]
        while waiting:
            value = waiting.pop()
            if value.name in known:
                continue
            known.add(value.name)
            node = value.producer()
            if node is None:
                continue
            layer = _describe_layer(node, str(output.name))
            if layer is None:
                waiting += [read for read in node.inputs if read is not None]
            else:
                yield layer


def _describe_layer(node: ir.Node, output: str) -> LastLayer | None:
    """Return a convolution, or a product with one matrix; None for any other node."""
    if not has_trait(node.op_type, Trait.LAYER) or node.inputs[0] is None:
        return None
    weight = get_constant(node.inputs[1])
    is_convolution = has_trait(node.op_type, Trait.WINDOWED)
    if weight is None or not (is_convolution or weight.ndim == 2):
        return None
    squares = np.square(weight.astype(np.float64))
    return LastLayer(
        node=str(node.name),
        output=output,
        read=str(node.inputs[0].name),
        value=str(node.outputs[0].name),
        power=_join_groups(squares, _attribute(node, "group", 1))
        if is_convolution
        else squares.T
        if _attribute(node, "transB", 0)
        else squares,
        is_convolution=is_convolution,
    )


def _attribute(node: ir.Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else found.as_int()


def _join_groups(squares: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """Return (I, O) of squared weights (O, I / groups, ...), 0 between groups."""
    power = squares.reshape(*squares.shape[:2], -1).sum(2)
    outputs, width = power.shape
    full = np.zeros((groups * width, outputs))
    for k in range(groups):
        own = slice(k * outputs // groups, (k + 1) * outputs // groups)
        full[k * width : (k + 1) * width, own] = power[own].T
    return full


def expose_values(model: NormalizedModel, values: Sequence[str]) -> bytes:
    """Return the whole model with `values` as more outputs.

    Nothing is cut off, because nodes may hold graphs that read values of the outer one.
    """
    proto: onnx.ModelProto = ir.to_proto(model.ir)
    present = {output.name for output in proto.graph.output}
    for name in dict.fromkeys(values):
        if name not in present:
            info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            proto.graph.output.append(info)
    return bytes(proto.SerializeToString())
