"""Constant codes in a quantized file (weights, biases, numbers), written for another target.

INT4 -- Cast(INT8) -- DequantizeLinear     INT8 -- DequantizeLinear      weights, equal codes
INT32 -- DequantizeLinear                  float32                       biases, (q - z) s
Q -- Pad(codes) -- DQ -- Conv(O, 4, k, k)  Q -- DQ -- Conv(O, 3, k, k)   the first Conv
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.core.quantization import IntegerRange, dequantize
from dfqonnx.errors import Offense
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.graph.passes.edit import get_constant, get_only_consumer
from dfqonnx.targets.profile import Packing, TargetProfile

_TRAIN = "train for it: dfqonnx run --target {}"
_PADDED = 8  # numbers that say how four axes are padded


@dataclass(frozen=True, kw_only=True)
class ConstantCodes:
    """A DequantizeLinear of a constant, perhaps behind a Cast."""

    node: ir.Node
    value: ir.Value  # the initializer
    cast: ir.Node | None
    codes: NDArray[Any]  # int8, uint8 or int32
    scale: NDArray[np.float32]
    zero: NDArray[Any]  # of the same type


def find_constant_codes(graph: ir.Graph) -> list[ConstantCodes]:
    """Return every DequantizeLinear that reads a constant, in the order of the graph."""
    found = []
    for node in graph:
        if node.op_type != "DequantizeLinear" or node.inputs[0] is None:
            continue
        value, cast = node.inputs[0], node.inputs[0].producer()
        if cast is not None and cast.op_type == "Cast" and cast.inputs[0] is not None:
            value = cast.inputs[0]
        array, scale = get_constant(value), get_constant(node.inputs[1])
        if array is None or scale is None:
            continue
        narrow = {"int4": np.int8, "int2": np.int8, "uint4": np.uint8, "uint2": np.uint8}
        wide = np.dtype(narrow.get(array.dtype.name, array.dtype))
        zero = get_constant(node.inputs[2]) if len(node.inputs) > 2 else None
        found.append(
            ConstantCodes(
                node=node,
                value=value,
                cast=cast if value is not node.inputs[0] else None,
                codes=array.astype(wide),
                scale=np.asarray(scale),
                zero=np.zeros(scale.shape, wide) if zero is None else np.asarray(zero),
            )
        )
    return found


def explain_constant(constant: ConstantCodes, target: TargetProfile) -> Offense | None:
    """Return why constant codes have no equal form for the target; None where they have one."""
    name, train = constant.value.name or "", _TRAIN.format(target.name)
    if target.power_of_two and np.any(np.log2(constant.scale) % 1):
        return Offense(name, "DequantizeLinear", "its scales are no powers of two", train)
    if constant.codes.dtype == np.int32 or constant.codes.ndim == 0:
        return None
    if constant.codes.dtype != target.weights.dtype_for():
        reason = f"its codes are {constant.codes.dtype}, and {target.runtime} reads"
        return Offense(name, "DequantizeLinear", f"{reason} {target.weights.dtype_for()}", train)
    if not target.per_channel and constant.scale.size > 1 and np.ptp(constant.scale) > 0:
        reason = f"it has a scale for each channel, and {target.runtime} takes one"
        return Offense(name, "DequantizeLinear", reason, train)
    return None


def choose_packing(constants: list[ConstantCodes], target: TargetProfile) -> Packing | None:
    """Return the packing that most of the weights fit, the narrowest first; None without one."""
    weights = [c.codes for c in constants if c.codes.ndim > 1 and c.codes.dtype == np.int8]
    whole = sum(codes.size for codes in weights)
    for packing in target.packings:
        if 2 * sum(codes.size for codes in weights if _fits(codes, packing)) > whole:
            return packing
    return None


def _fits(codes: NDArray[np.generic], packing: Packing) -> bool:
    half = 2 ** (packing.bits - 1)
    numbers = codes.astype(np.int32)
    return bool(numbers.min(initial=0) >= -half and numbers.max(initial=0) < half)


def rewrite_constant(
    editor: GraphEditor, constant: ConstantCodes, packing: Packing | None
) -> Packing | None:
    """Write constant codes in the form of the target; return how they are packed."""
    target = editor.target
    if constant.codes.dtype == np.int32:
        if target.float_bias:
            _write_float(editor, constant)
        else:
            _write_zero_point(editor, constant)
        return None
    if constant.codes.ndim == 0:
        _write_number(editor, constant)
        return None
    chosen = packing if packing is not None and _fits(constant.codes, packing) else None
    if packing is not None and chosen is None:
        wider = (p for p in target.packings if _fits(constant.codes, p))
        chosen = next(wider, None)
    value, nodes = editor.codes(constant.codes, packing=chosen)
    editor.graph.insert_before(constant.node, nodes)
    constant.node.replace_input_with(0, value)
    if constant.cast is not None and not constant.cast.outputs[0].uses():
        editor.graph.remove(constant.cast, safe=True)
    if not target.per_channel and constant.scale.size > 1:
        constant.node.replace_input_with(1, editor.constant(constant.scale.reshape(-1)[0]))
        if len(constant.node.inputs) > 2:
            constant.node.replace_input_with(2, editor.constant(constant.zero.reshape(-1)[0]))
        constant.node.attributes.pop("axis", None)
    _write_zero_point(editor, constant)
    return chosen


def _write_zero_point(editor: GraphEditor, constant: ConstantCodes) -> None:
    """Leave a zero point of 0 out where the kernel needs none, else see that it is there."""
    node, uses = constant.node, constant.node.outputs[0].consumers()
    needless = all(reader.op_type in editor.target.zero_points_left_out for reader in uses)
    if needless and not constant.zero.any():
        node.resize_inputs(2)
    elif len(node.inputs) < 3 or node.inputs[2] is None:
        scale = get_constant(node.inputs[1])
        node.resize_inputs(3)
        shape = () if scale is None else scale.shape
        node.replace_input_with(2, editor.constant(np.zeros(shape, constant.codes.dtype)))


def _write_float(editor: GraphEditor, constant: ConstantCodes) -> None:
    whole = IntegerRange(32, -(2**30), 2**30, 0)
    codes = (constant.codes - constant.zero).astype(np.float32)
    real = dequantize(codes, constant.scale.astype(np.float32), whole)
    out = constant.node.outputs[0]
    made = editor.constant(real.astype(np.float32))
    out.replace_all_uses_with(made)
    editor.graph.remove(constant.node, safe=True)


def _write_number(editor: GraphEditor, constant: ConstantCodes) -> None:
    """Write a single number, a code of its own scale, in the type of activations."""
    form = editor.target.activations
    real = int(constant.codes) - int(constant.zero)
    zero = 0 if form.signed or real >= 0 else -real
    code = form.dtype_for(8 * constant.codes.dtype.itemsize).type
    constant.node.resize_inputs(3)
    constant.node.replace_input_with(0, editor.own_codes(np.asarray(code(real + zero))))
    constant.node.replace_input_with(2, editor.constant(code(zero)))


def drop_channel_padding(editor: GraphEditor) -> Iterator[Offense]:
    """Take zero channels away that were added in front of a Conv; yield Pads that are others."""
    for pad in [node for node in editor.graph if node.op_type == "Pad"]:
        maker = pad.inputs[0].producer() if pad.inputs[0] is not None else None
        if maker is not None and maker.op_type == "Clip" and maker.inputs[0] is not None:
            maker = maker.inputs[0].producer()
        if maker is None or maker.op_type != "QuantizeLinear":
            continue
        real = get_only_consumer(pad.outputs[0])
        conv = None if real is None else get_only_consumer(real.outputs[0])
        amounts = get_constant(pad.inputs[1])
        added = 0 if amounts is None or len(amounts) != _PADDED else int(amounts[5])
        weight = _find_weight(conv)
        if (
            weight is None
            or amounts is None
            or added <= 0
            or np.delete(amounts, 5).any()
            or weight.codes[:, -added:].any()
        ):
            train = _TRAIN.format(editor.target.name)
            yield Offense(pad.name or "", "Pad", "it stands on codes", train)
            continue
        assert pad.inputs[0] is not None
        pad.outputs[0].replace_all_uses_with(pad.inputs[0])
        editor.graph.remove(pad, safe=True)
        value, _ = editor.codes(np.ascontiguousarray(weight.codes[:, :-added]), packing=None)
        weight.node.replace_input_with(0, value)
        if weight.cast is not None and not weight.cast.outputs[0].uses():
            editor.graph.remove(weight.cast, safe=True)


def _find_weight(conv: ir.Node | None) -> ConstantCodes | None:
    if conv is None or conv.op_type != "Conv" or conv.inputs[1] is None:
        return None
    maker = conv.inputs[1].producer()
    found = [] if maker is None else [maker]
    if not found or maker is None or len(maker.outputs[0].uses()) != 1:
        return None
    graph = conv.graph
    if not isinstance(graph, ir.Graph):
        return None
    weights = {each.node: each for each in find_constant_codes(graph)}
    weight = weights.get(maker)
    return weight if weight is not None and weight.codes.dtype == np.int8 else None
