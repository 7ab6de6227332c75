"""The parameter-free shortcut as one identity Conv.

`x[:, :, ::2, ::2]` followed by zero channels before and after (Slice, Slice, Pad) is a 1x1 Conv of
stride 2 whose weight is one where an input channel goes to its output channel:

    W[o, i] = 1 if o == i + before else 0          scale 1, no bias

Input and output share one scale, so the integer Conv multiplies by 1 and rounds nothing: codes are
equal to those of the Slices and the Pad.

For codes of 16 bits the one is 64 steps of 1/64, which is the same number. Qualcomm's HTP drops the
lowest 8 bits of such sums: that made errors of up to 255 codes where one was a single step, and of
3 with 64 (`targets/onnxruntime_qnn.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.core.quantization import MAX_BITS
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.weights import write_zero_points
from dfqonnx.graph.passes.edit import (
    get_constant,
    get_constant_input,
    get_input,
    get_shape,
)
from dfqonnx.targets.profile import Packing

WIDE_ONE = 64  # the code of one, in front of codes of 16 bits


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Slices and Pads that are together one identity Conv."""

    nodes: tuple[ir.Node, ...]  # in the order of data flow
    strides: tuple[int, int]  # over height and width
    channels: int  # of the input
    before: int  # zero channels in front
    total: int  # output channels


def find_chain(value: ir.Value, shared: frozenset[str], *, widest: int) -> Chain | None:
    """Return the chain that ends in `value`; None where it is another thing.

    Tensors in `shared` may lie inside: they share the scale of the chain's input. `widest` is how
    many output channels the Conv may have.
    """
    nodes: list[ir.Node] = []
    strides, before, after = (1, 1), 0, 0
    current = value
    while (node := current.producer()) is not None:
        inside = current is value or (
            current.name in shared and len(current.uses()) == 1 and not current.is_graph_output()
        )
        step = _strides(node) if node.op_type == "Slice" else None
        padding = _channel_padding(node) if node.op_type == "Pad" else None
        if not inside or (step is None and padding is None):
            break
        if step is not None:
            strides = (strides[0] * step[0], strides[1] * step[1])
        if padding is not None:
            before, after = before + padding[0], after + padding[1]
        nodes.insert(0, node)
        assert node.inputs[0] is not None
        current = node.inputs[0]
    channels = current.shape[1] if current.shape is not None and len(current.shape) == 4 else None
    if not nodes or not isinstance(channels, int) or before + channels + after > widest:
        return None
    return Chain(
        nodes=tuple(nodes),
        strides=strides,
        channels=channels,
        before=before,
        total=before + channels + after,
    )


def replace_chain(
    editor: GraphEditor, chain: Chain, *, packing: Packing | None, bits: int
) -> ir.Value:
    """Put the Conv in the chain's place and return its output, not yet quantized.

    `bits` are those of the codes; a `packing` is for weights of 8-bit codes.
    """
    wide = bits > MAX_BITS
    alone = chain.total == chain.channels  # nothing but strides: one channel a group
    weight = np.zeros((chain.total, 1 if alone else chain.channels, 1, 1), np.int8)  # (O, I, 1, 1)
    index = np.arange(chain.channels)
    weight[index + chain.before, 0 if alone else index] = WIDE_ONE if wide else 1
    source, last = chain.nodes[0].inputs[0], chain.nodes[-1]
    assert source is not None
    real = _unit_weight(editor, weight, last, packing=None if wide else packing)
    conv = editor.node(
        "Conv",
        [source, real],
        attributes={
            "group": chain.channels if alone else 1,
            "kernel_shape": (1, 1),
            "strides": chain.strides,
        },
    )
    editor.graph.insert_after(last, conv)
    old, new = last.outputs[0], conv.outputs[0]
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name, new.name = f"{old.name}/before", old.name
    for node in reversed(chain.nodes):
        editor.graph.remove(node, safe=True)
    conv.name = last.name  # the user's node of that name is gone
    return new


def _unit_weight(
    editor: GraphEditor, weight: NDArray[np.int8], before: ir.Node, *, packing: Packing | None
) -> ir.Value:
    axis = {"axis": 0} if editor.target.per_channel else None
    shape = len(weight) if axis else ()
    scale = editor.constant(np.full(shape, 1 / weight.max(), np.float32))
    zero = write_zero_points(editor, np.zeros(shape, np.int8), op="Conv")
    codes, nodes = editor.codes(weight, packing=packing)
    nodes.append(editor.node("DequantizeLinear", [codes, scale, *zero], attributes=axis))
    editor.graph.insert_before(before, nodes)
    return nodes[-1].outputs[0]


def _strides(node: ir.Node) -> tuple[int, int] | None:
    """Return the steps of a Slice that keeps every step-th row and column from the first on."""
    shape = get_shape(node.inputs[0])
    given = [array for v in node.inputs[1:] if (array := get_constant(v)) is not None]
    if shape is None or len(given) < max(2, len(node.inputs) - 1):
        return None
    axes_and_steps = np.arange(len(given[0])), np.ones_like(given[0])  # where they are left out
    found = {2: 1, 3: 1}
    for start, end, axis, step in zip(*given, *axes_and_steps[len(given) - 2 :], strict=True):
        size = shape[axis % len(shape)]
        whole = isinstance(size, int) and start == 0 and end >= size
        if not whole or (axis % 4 not in found and step != 1) or step < 1:
            return None
        found[axis % 4] = int(step)
    return found[2], found[3]


def _channel_padding(node: ir.Node) -> tuple[int, int] | None:
    """Return how many zero channels a Pad adds before and after; None for any other Pad."""
    pads, fill = get_constant_input(node, 1), get_input(node, 2)
    value = get_constant(fill)
    zeros = fill is None or (value is not None and not value.any())
    if pads is None or len(pads) != 8 or not zeros or get_input(node, 3) is not None:
        return None
    if node.attributes.get_string("mode", "constant") != "constant" or np.any(pads < 0):
        return None
    return None if np.any(np.delete(pads, (1, 5))) else (int(pads[1]), int(pads[5]))
