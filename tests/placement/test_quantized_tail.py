"""What stands behind the last layer stays in float, but for what a target cannot load there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.profile import TARGETS
from tests.placement.plans import CONV, P, normalized

DECODER = f"a = {P}(x, w) b = Mul(a, half) c = Exp(b) d = Mul(c, half) y = Neg(d)"


@pytest.mark.parametrize(
    ("target", "quantized"), [("onnxruntime-qnn", {"c"}), ("onnxruntime-cpu", set())]
)
def test_exp_of_a_box_decoder_is_quantized_where_the_target_needs_it(
    tmp_path: Path, target: str, quantized: set[str]
) -> None:
    """UltraFace's boxes: with Exp in float between quantized layers the HTP loads no such file."""
    model = normalized(tmp_path, DECODER, {**CONV, "half": ()})
    quant = QuantizationConfig(BitWidths(8, 8))
    plan = place_quantizers(model, quant, TARGETS[target], input_signed=True)
    assert {q.tensor for q in plan.activations} & {"c", "d", "y"} == quantized
    assert ("@c" in {node.node for node in plan.floats}) is not bool(quantized)
