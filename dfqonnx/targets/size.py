"""The smallest file that ONNX Runtime CPU runs on integers.

Measured with ONNX Runtime 1.31: weights of 2 bits as `INT2 -> Cast(INT8) -> DequantizeLinear`
(opset 25, IR 13) become QLinearConv with the codes of the file; 1.23 does not load them. A
DequantizeLinear without a zero point takes 0, of weights and biases as well, and a Conv fuses
alike; a Gemm does not, and stays in float.
Padding the first Conv would cost bytes.
"""

from __future__ import annotations

from dataclasses import replace

from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import OpsetVersion, Packing, register

SIZE = register(
    replace(
        ONNXRUNTIME_CPU,
        name="size",
        about="the smallest file for ONNX Runtime CPU; 1.31 or later for weights of 2 bits",
        packings=(Packing(bits=2, opset=25), Packing(bits=4, opset=21)),
        opsets=(*ONNXRUNTIME_CPU.opsets, OpsetVersion(25, 13)),
        zero_points_left_out=frozenset({"Conv"}),
        first_conv_padding=None,
        best_widths=("w4a8", "w2a8"),
        narrow_activations=(
            "W4A8 (--bits w4a8) has the same bytes as W4A4, is faster and loses less: only weights"
            " take bytes"
        ),
    )
)
