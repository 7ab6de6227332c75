"""Codes that are compared as reals, for runtimes that compare uint8 as if it were int8.

    q -- Clip(lo, hi) -- DequantizeLinear                        codes above 127 count as negative
    q -- Cast(float) -- Clip(lo, hi) -- Cast(uint8) -- DequantizeLinear                      equal

float32 holds the integers of 8 bits, so both give the same codes. The layer that makes q keeps its
integer kernel, as do those that read the codes; a Clip in front of the quantizer would take it
away, and one between two pairs of quantizers is merged by OpenVINO (PP-OCR's text detector 14.5 dB
instead of 24).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import (
    get_constant,
    get_constant_input,
    get_only_consumer,
    get_producer,
    is_computed,
)

_CODES = range(256)
_FLOAT, _UINT8 = ir.DataType.FLOAT, ir.DataType.UINT8


def compare_reals(editor: GraphEditor) -> None:
    """Let what the target compares as signed numbers read uint8 codes as float32."""
    for node in [n for n in editor.graph if n.op_type in editor.target.signed_comparisons]:
        if _reads_codes(node):
            for index, value in enumerate(tuple(node.inputs)):
                if value is not None:
                    node.replace_input_with(index, _to_float(editor, node, value))
            _from_float(editor, node)


def _reads_codes(node: ir.Node) -> bool:
    """Tell whether a node reads uint8 codes, also moved ones."""
    maker = get_producer(node)
    while maker is not None and maker.op_type != "QuantizeLinear":
        if not has_trait(maker.op_type, Trait.VALUE_PRESERVING) and maker.op_type != node.op_type:
            return False
        maker = get_producer(maker)
    if maker is None:
        return False
    zero = get_constant_input(maker, 2)
    return maker.outputs[0].dtype in {None, _UINT8} and (zero is None or zero.dtype == np.uint8)


def _to_float(editor: GraphEditor, node: ir.Node, value: ir.Value) -> ir.Value:
    """Return a value of codes as float32."""
    array = get_constant(value)
    if array is not None:
        return editor.constant(array.astype(np.float32))
    cast = editor.node("Cast", [value], attributes={"to": int(_FLOAT)})
    editor.graph.insert_before(node, cast)
    return cast.outputs[0]


def _from_float(editor: GraphEditor, node: ir.Node) -> None:
    """Make uint8 codes of the first output of a node."""
    real = node.outputs[0]
    cast = editor.node("Cast", [real], attributes={"to": int(_UINT8)})
    codes = cast.outputs[0]
    codes.shape, codes.type, real.type = real.shape, real.type, ir.TensorType(_FLOAT)
    editor.after(real, [cast])
    editor.redirect(real, codes)


def compare_codes(editor: GraphEditor) -> None:
    """Undo `compare_reals`, so that a file has one form whatever it was made for."""
    for node in [n for n in editor.graph if n.op_type == "Clip"]:
        before, behind = get_producer(node), get_only_consumer(node.outputs[0])
        if before is None or behind is None or get_only_consumer(before.outputs[0]) is not node:
            continue
        codes, bounds = before.inputs[0], [get_constant(value) for value in node.inputs[1:]]
        if (_target_of(before), _target_of(behind)) != (_FLOAT, _UINT8) or codes is None:
            continue
        if not _reads_codes(before) or any(is_computed(node, index) for index in (1, 2)):
            continue
        if not all(bound is None or bound in _CODES for bound in bounds):
            continue
        for index, bound in enumerate(bounds, start=1):
            if bound is not None:
                node.replace_input_with(index, editor.constant(bound.astype(np.uint8)))
        node.replace_input_with(0, codes)
        real, made = node.outputs[0], behind.outputs[0]
        real.type = ir.TensorType(_UINT8)
        editor.redirect(made, real)
        editor.graph.remove([before, behind], safe=True)


def _target_of(node: ir.Node) -> int | None:
    """Return the type to which a Cast converts; None for another node."""
    return node.attributes.get_int("to", 0) if node.op_type == "Cast" else None
