"""ST Edge AI for STM32 microcontrollers and NPUs, by its public rules: no file was run.

*Opsets* up to 20, *8-bit* QDQ only from ONNX (ST Edge AI Core 3.0, "Quantized model support";
narrower networks come from QKeras and Larq alone): so INT4 tensors, which need opset 21, are out.

Its kernels round in fixed point.

*Activations* are int8 with a zero point and *weights* int8 with zero point 0 and a scale per
output channel, the scheme of ST's model zoo (`quantize_static` with QInt8 for both, per channel).
"""

from __future__ import annotations

from dfqonnx.core.quantization import INT8, NumberFormat
from dfqonnx.targets.profile import Kernel, OpsetVersion, TargetProfile, WidthLimit, register

_EIGHT_BITS = (
    "ST Edge AI takes 8-bit integers from ONNX, and fewer codes save neither bytes nor time"
)

STM32 = register(
    TargetProfile(
        name="stm32",
        about="STM32 microcontrollers and NPUs (ST Edge AI): int8, opset 13",
        runtime="ST Edge AI",
        activations=NumberFormat(signed=True, zero_points=True),
        weights=INT8,
        kernels={
            "Conv": Kernel(absorbs=True),
            "Gemm": Kernel(absorbs=True),
            "MatMul": Kernel(absorbs=True),
            "Add": Kernel(absorbs=True, constants=False),
            "Mul": Kernel(constants=False),
            "Concat": Kernel(),
            "AveragePool": Kernel(neutral=frozenset({"ceil_mode", "dilations"})),
            "GlobalAveragePool": Kernel(),
            "Sigmoid": Kernel(),
        },
        absorbed=frozenset({"Relu", "Clip"}),
        integer_clip=False,
        integer_pad=False,
        opsets=(OpsetVersion(13, 8), OpsetVersion(20, 9)),
        divides=False,
        on_onnxruntime_cpu=False,
        evidence="rules",
        least_weights=WidthLimit(8, _EIGHT_BITS, "w8a8"),
        least_activations=WidthLimit(8, _EIGHT_BITS, "w8a8"),
        best_widths=("w8a8",),
    )
)
