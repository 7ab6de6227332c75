"""Quantizers of activations: `QuantizeLinear -> Clip on the integers -> DequantizeLinear`.

    codes = clip(round_half_even(x / s) + z, lo, hi)     codes live in uint8, whatever the width
    x'    = (codes - z) * s

The Clip stands on the uint8 tensor: a float Clip, a Min, or a true uint4 type keep ONNX Runtime
from using QLinearConv; this form is exact at the speed of plain 8 bits. A full 0..255 grid needs no
Clip. ReLU6 becomes Relu, its bound going into `hi`, since rounding is monotone:
`Q(min(x, 6)) = min(Q(x), Q(6))`.

A reading (`consumers` given) quantizes again, in front of those consumers, what its producer's
quantizer already put on a finer grid. The Clip between the two pairs is also what keeps ONNX
Runtime from merging them, so a reading always has one.

Tensors behind value-preserving nodes carry the codes of the tensor they come from.

    DQ -- MaxPool -- Q -- DQ          same scale and zero point on both sides

so ONNX Runtime drops the pairs and runs the node on uint8. No Clip: the codes are already within
the grid. A chain of Slices and Pads that only strides over space and adds channels (the
parameter-free shortcut of the CIFAR ResNets) becomes one identity Conv, see `shortcut.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dfqonnx.core.quantization_plan import (
    QUANTIZER_PREFIX,
    ActivationParameters,
    ActivationQuantizer,
    SharedQuantizer,
)
from dfqonnx.errors import InternalError
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.strided_shortcut import find_chain, replace_chain


def insert_quantizer(
    surgery: GraphEditor,
    site: ActivationQuantizer,
    params: ActivationParameters,
    values: dict[str, ir.Value],
) -> None:
    """Put the quantizer of `site` in; `values` maps tensors to what their consumers read now."""
    source = values[site.tensor]
    if site.clip_max is not None:
        _relax_clip(source)
    nodes = quantizer(surgery, source, params, name=site.name, clip=bool(site.consumers))
    surgery.after(source, nodes)
    surgery.redirect(source, nodes[-1].outputs[0], only=frozenset(site.consumers))
    if not site.consumers:
        values[site.tensor] = nodes[-1].outputs[0]


def quantizer(
    surgery: GraphEditor,
    source: ir.Value,
    params: ActivationParameters,
    *,
    name: str | None = None,
    clip: bool = False,
) -> list[ir.Node]:
    """Return the nodes that quantize and dequantize `source`, not yet inserted.

    Args:
        surgery: the graph under edit.
        source: the real tensor.
        params: the grid.
        name: site name; None for a quantizer that stands for no site.
        clip: keep a Clip even where the grid fills uint8.
    """
    if not 0 <= params.lo <= params.zero_point <= params.hi <= 255 or not params.scale > 0:
        raise InternalError(f"quantizer {name!r}: {params} does not fit uint8; please report it")
    scale = surgery.constant(np.float32(params.scale))
    zero = surgery.constant(np.uint8(params.zero_point))
    label = "" if name is None else QUANTIZER_PREFIX + name
    nodes = [surgery.node("QuantizeLinear", [source, scale, zero], name=label)]
    if clip or (params.lo, params.hi) != (0, 255):
        bounds = [surgery.constant(np.uint8(b)) for b in (params.lo, params.hi)]
        nodes.append(surgery.node("Clip", [nodes[-1].outputs[0], *bounds]))
    nodes.append(surgery.node("DequantizeLinear", [nodes[-1].outputs[0], scale, zero]))
    nodes[-1].outputs[0].shape, nodes[-1].outputs[0].type = source.shape, source.type
    return nodes


def _relax_clip(value: ir.Value) -> None:
    """Turn the Clip(0, ceiling) that makes `value` into a Relu."""
    node = value.producer()
    if node is not None and node.op_type == "Clip":
        node.op_type = "Relu"
        node.resize_inputs(1)


def insert_aliases(
    surgery: GraphEditor,
    aliases: tuple[SharedQuantizer, ...],
    params: Mapping[str, ActivationParameters],
    values: dict[str, ir.Value],
    *,
    pack: bool,
) -> None:
    """Put Q/DQ behind every alias; `values` then maps it to what its consumers read."""
    known = frozenset(alias.tensor for alias in aliases)
    done: set[str] = set()
    for alias in reversed(aliases):
        if alias.tensor in done:
            continue
        chain = find_chain(values[alias.tensor], known)
        if chain is not None:
            names = [node.outputs[0].name or "" for node in chain.nodes]
            values[alias.tensor] = replace_chain(surgery, chain, pack=pack)
            done.update(name for name in names if name != alias.tensor)
        source = values[alias.tensor]
        nodes = quantizer(surgery, source, params[alias.of], clip=False)
        if nodes[1].op_type == "Clip":
            nodes[2].replace_input_with(0, nodes[0].outputs[0])
            del nodes[1]
        surgery.after(source, nodes)
        surgery.redirect(source, nodes[-1].outputs[0])
        values[alias.tensor] = nodes[-1].outputs[0]
