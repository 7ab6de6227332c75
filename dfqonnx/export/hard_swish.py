"""HardSwish as a product of codes: one tensor, read with two scales.

    HardSwish(x) = x clip(x + 3, 0, 6) / 6                              x = (q - z) s,  s = 3 / k

    clip(x + 3, 0, 6) / 6 = (clip(q, z - k, z + k) - (z - k)) s / 6     exactly, since k s = 3

    q --+-- DequantizeLinear(s, z) ------------------------ Mul -- QuantizeLinear
        +-- Clip(z - k, z + k) -- DequantizeLinear(s / 6, z - k) --^

ONNX Runtime has no integer kernel for HardSwish, but runs this as a Clip of uint8 and a QLinearMul.
"""

from __future__ import annotations

import numpy as np

from dfqonnx.core.quantization_plan import QuantizationParameters, QuantizationPlan
from dfqonnx.errors import InternalError
from dfqonnx.export.graph_editor import GraphEditor

_SIXTH = 6.0


def write_hard_swishes(
    editor: GraphEditor, plan: QuantizationPlan, parameters: QuantizationParameters
) -> None:
    """Replace every HardSwish behind a quantizer with a `unit`, unless it is kept apart."""
    for quantizer in plan.activations:
        if quantizer.unit is None:
            continue
        real = editor.values[quantizer.tensor]
        dequantize, uses = real.producer(), tuple(real.uses())
        node = uses[0].node if len(uses) == 1 else None
        if dequantize is None or node is None or node.op_type != "HardSwish":
            raise InternalError(
                f"quantizer {quantizer.name!r}: a HardSwish alone was to read it; please report it"
            )
        if node.name in plan.isolated:
            continue
        params = parameters.activations[quantizer.name]
        steps, codes = quantizer.steps(params.scale), dequantize.inputs[0]
        assert codes is not None
        code = editor.target.activations.dtype_for().type
        low, high = params.zero_point - steps, min(params.zero_point + steps, params.hi)
        ends = [editor.constant(code(end)) for end in (max(low, params.lo), high)]
        clip = editor.node("Clip", [codes, *ends])
        sixth = editor.constant(np.float32(params.scale / _SIXTH))
        inputs = [clip.outputs[0], sixth, editor.constant(code(low))]
        gate = editor.node("DequantizeLinear", inputs)
        editor.graph.insert_before(node, [clip, gate])
        node.op_type = "Mul"
        node.resize_inputs(2)
        node.replace_input_with(1, gate.outputs[0])
