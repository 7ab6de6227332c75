"""ONNX Runtime Web: the same kernels compiled to WebAssembly.

Measured with onnxruntime-web 1.30 in node, one thread: W8A8, W4A8 and W4A4 with INT4 weights load
and give the outputs of ONNX Runtime CPU to 1.2e-7. Speed over float there: ResNet-20 1.07 (W8A8),
1.48 (W4A8), 1.16 (W4A4); MobileNetV1 0.76, MobileNetV2 0.54, UltraFace 0.74: on all but the first
the integer file is *slower* than the float one. So this target promises a smaller download and no
speed.

Codes of 16 bits load and run in float: ResNet-20 at W8A16 0.98 times the float speed, 83 dB from
the trained student.

The kernel for input channels in fours is one of x86-64 with VNNI, so the first Conv is left alone.
"""

from __future__ import annotations

from dataclasses import replace

from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import WideActivations, register

ONNXRUNTIME_WEB = register(
    replace(
        ONNXRUNTIME_CPU,
        name="onnxruntime-web",
        about="ONNX Runtime Web (WebAssembly): a smaller download; often no faster than float",
        runtime="ONNX Runtime Web",
        first_conv_padding=None,
        wide_activations=WideActivations(
            "nodes that read or make activations of 16 bits compute in float, at about the float"
            " model's speed: there are no integer kernels for them"
        ),
        best_widths=("w4a8", "w8a8"),
        narrow_activations=(
            "W4A8 (--bits w4a8) downloads the same bytes as W4A4, was faster (1.48 against 1.16"
            " times the float speed on ResNet-20) and loses less"
        ),
    )
)
