"""A sum or product with one number, on integers: the number becomes a code of its own scale.

    c = (1 - 0) |c|   for c > 0: code 1, zero point 0
    c = (0 - 1) |c|   for c < 0: code 0, zero point 1

    x --------------------------- DequantizeLinear --- Mul -- QuantizeLinear
    1 --- DequantizeLinear(|c|) -----------------------^

Both are exact, since a scale may be any number. Beside codes of 16 bits the 1 is 2^15, and the
scale |c| / 2^15, which is as exact: a fixed-point kernel that aligns the scales of its operands
loses the bits of a large one (Qualcomm's HTP adds 0.37 at 27 dB with code 1, at 57 dB with this).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dfqonnx.core.quantization import MAX_BITS
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.graph.passes.edit import get_constant, get_constant_input

WIDE_ONE = 2**15  # the code of one beside codes of 16 bits


def quantize_numbers(editor: GraphEditor, plan: QuantizationPlan) -> None:
    """Let every node that a kernel for numbers runs read its number as a code."""
    floats = {node.node for node in plan.floats}
    for node in [*editor.graph]:
        kernel = editor.target.kernels.get(node.op_type)
        if kernel is None or not kernel.numbers or node.name in floats:
            continue
        for index, value in enumerate(node.inputs):
            array = get_constant(value)
            if array is not None and array.size == 1:
                _quantize(editor, node, index, float(array.reshape(-1)[0]))


def _container_beside(editor: GraphEditor, other: ir.Value | None) -> type[np.generic]:
    """Return the type of the codes of the other operand, behind its DequantizeLinear."""
    maker = None if other is None else other.producer()
    zero = get_constant_input(maker, 2) if maker is not None and len(maker.inputs) > 2 else None
    return editor.target.activations.dtype_for().type if zero is None else zero.dtype.type


def _quantize(editor: GraphEditor, node: ir.Node, index: int, number: float) -> None:
    code = _container_beside(editor, node.inputs[1 - index])
    one = WIDE_ONE if 8 * np.dtype(code).itemsize > MAX_BITS else 1
    codes = editor.own_codes(np.asarray(code(one * (number > 0))))
    scale = np.float32(abs(number)) / np.float32(one)
    scale_and_zero = [editor.constant(scale), editor.constant(code(one * (number < 0)))]
    made = editor.node("DequantizeLinear", [codes, *scale_and_zero])
    editor.graph.insert_before(node, made)
    node.replace_input_with(index, made.outputs[0])
