"""Quantizers of activations, as the target wants them.

    QuantizeLinear -> Clip on the integers -> DequantizeLinear         `integer_clip`
    Clip on the reals -> QuantizeLinear -> DequantizeLinear            else

    codes = clip(round_half_even(x / s) + z, lo, hi)     in 8 bits, whatever the width up to that
    x'    = (codes - z) * s

A grid that fills its container needs no Clip. Rounding is monotone, `Q(min(x, 6)) = min(Q(x),
Q(6))`: so both forms give the same codes, and on the integers ReLU6 is a Relu and a smaller `hi`.

Codes of 16 bits (uint16, opset 21) get their Clip on the reals everywhere: ONNX Runtime has none
for that type.

A consumer-side requantizer (`consumers` given) quantizes again, in front of those consumers, what
its producer's quantizer already put on a finer grid. The Clip between the two is also what keeps
ONNX Runtime from merging them, so there always is one; containers of 8 and 16 bits it does not
merge, and where codes change between those, no Clip is needed: the values are in range.

Tensors behind value-preserving nodes carry the codes of the tensor they come from.

    DQ -- MaxPool -- Q -- DQ          same scale and zero point on both sides

so that a runtime drops the pairs and runs the node on the codes. No Clip: they are in range. A
chain of Slices and Pads that only strides over space and adds channels (the parameter-free shortcut
of the CIFAR ResNets) becomes one identity Conv, see `strided_shortcut.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dfqonnx.core.quantization import MAX_BITS
from dfqonnx.core.quantization_plan import (
    QUANTIZER_PREFIX,
    ActivationParameters,
    ActivationQuantizer,
    QuantizationPlan,
    SharedQuantizer,
)
from dfqonnx.errors import InternalError
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.strided_shortcut import find_chain, replace_chain
from dfqonnx.targets.profile import Packing


def insert_quantizer(
    editor: GraphEditor, quantizer: ActivationQuantizer, params: ActivationParameters
) -> None:
    """Put `quantizer` in."""
    source, top = editor.values[quantizer.tensor], quantizer.clip_max
    bits = quantizer.grid.bits
    on_codes = editor.target.integer_clip and bits <= MAX_BITS
    if top is not None and (on_codes or math.isinf(top)):
        _drop_upper_bound(source)
    name = QUANTIZER_PREFIX + quantizer.name
    again = bool(quantizer.consumers) and on_codes
    if quantizer.consumers and not on_codes and bits >= MAX_BITS:
        params = replace(params, lo=quantizer.grid.lo, hi=quantizer.grid.hi)
    maker = source.producer()
    if not quantizer.consumers and maker is not None and maker.op_type == "Clip":
        params = replace(params, hi=quantizer.grid.hi)  # the Clip that is there bounds the codes
    nodes = quantize(editor, source, params, bits=bits, name=name, bounded=again)
    _insert(editor, nodes, source, quantizer)


def quantize(
    editor: GraphEditor,
    source: ir.Value,
    params: ActivationParameters,
    *,
    bits: int = MAX_BITS,
    name: str = "",
    bounded: bool = False,
) -> list[ir.Node]:
    """Return the nodes that quantize and dequantize the real tensor `source`, not yet inserted.

    Their `bits` decide on the container. The QuantizeLinear is called `name`; `bounded` keeps a
    Clip even where the codes fill their container.

    Raises:
        InternalError: the codes do not fit the container.
    """
    limits = editor.target.activations.limits_for(bits)
    on_codes = editor.target.integer_clip and bits <= MAX_BITS
    fits = limits[0] <= params.lo <= params.zero_point <= params.hi <= limits[1]
    if not fits or not params.scale > 0:
        raise InternalError(
            f"quantizer {name!r}: {params} does not fit codes from {limits[0]} to {limits[1]};"
            " please report it"
        )
    bounded |= (params.lo, params.hi) != limits
    code, scale = editor.target.activations.dtype_for(bits).type, np.float32(params.scale)
    nodes = []
    if bounded and not on_codes:
        ends = [scale * np.float32(end - params.zero_point) for end in (params.lo, params.hi)]
        nodes.append(editor.node("Clip", [source, *map(editor.constant, ends)]))
        source = nodes[0].outputs[0]
    parameters = [editor.constant(scale), editor.constant(code(params.zero_point))]
    nodes.append(editor.node("QuantizeLinear", [source, *parameters], name=name))
    if bounded and on_codes:
        codes = [editor.constant(code(end)) for end in (params.lo, params.hi)]
        nodes.append(editor.node("Clip", [nodes[-1].outputs[0], *codes]))
    nodes.append(editor.node("DequantizeLinear", [nodes[-1].outputs[0], *parameters]))
    return nodes


def _insert(
    editor: GraphEditor,
    nodes: list[ir.Node],
    source: ir.Value,
    quantizer: ActivationQuantizer | SharedQuantizer,
) -> None:
    only = quantizer.consumers if isinstance(quantizer, ActivationQuantizer) else ()
    made = nodes[-1].outputs[0]
    made.shape, made.type = source.shape, source.type
    editor.after(source, nodes)
    if not only:
        editor.values[quantizer.tensor] = made
    if source.is_graph_input():  # an output that is the input, or made of it alone, stays so
        raw = quantizer.raw if isinstance(quantizer, ActivationQuantizer) else ()
        only = only or tuple({str(n.name) for n in source.consumers()} - {*raw, nodes[0].name})
    editor.redirect(source, made, only=frozenset(map(str, only)))


def _drop_upper_bound(value: ir.Value) -> None:
    """Turn the Clip(0, c) that makes `value` into a Relu."""
    node = value.producer()
    if node is not None and node.op_type == "Clip":
        node.op_type = "Relu"
        node.resize_inputs(1)


def insert_shared_quantizers(
    editor: GraphEditor,
    plan: QuantizationPlan,
    params: Mapping[str, ActivationParameters],
    *,
    packing: Packing | None,
) -> None:
    """Quantize every tensor behind a value-preserving node again, at the scale that it shares."""
    shared, bits = plan.shared, {each.name: each.grid.bits for each in plan.activations}
    known = frozenset(each.tensor for each in shared)
    done: set[str] = set()
    for each in reversed(shared):
        if each.tensor in done:
            continue
        chain = find_chain(
            editor.values[each.tensor], known, widest=editor.target.shortcut_channels
        )
        if chain is not None:
            names = [node.outputs[0].name or "" for node in chain.nodes]
            editor.values[each.tensor] = replace_chain(
                editor, chain, packing=packing, bits=bits[each.of]
            )
            done.update(name for name in names if name != each.tensor)
        source = editor.values[each.tensor]
        nodes = quantize(editor, source, params[each.of], bits=bits[each.of])
        for clip in [node for node in nodes if node.op_type == "Clip"]:  # the codes are in range
            bounded = clip.inputs[0]  # codes, or reals in front of the quantizer
            assert bounded is not None
            clip.resize_inputs(0)
            clip.outputs[0].replace_all_uses_with(bounded)
            nodes.remove(clip)
        _insert(editor, nodes, source, each)
