"""OpenVINO's CPU plugin.

Measured with OpenVINO 2026.4.1 on one thread of an x86-64 CPU with VNNI:

*Integers*: every Conv and fully connected layer of W8A8, W4A8 and W4A4 files runs as u8 in the
executable graph, the Clip on codes included. INT4 weights need the Cast to INT8: without it the
Conv runs in float.

*Rounding*: codes are round(x (1 / s)). On a CPU with bfloat16 instructions, values that are not
quantized are kept in bfloat16 unless INFERENCE_PRECISION_HINT is f32: unrounded sums then come out
at 31 dB instead of 45 (ResNet-20, W8A8, synthetic images) and 16 instead of 30 (W4A4).

*Sixteen bits*: uint16 codes load, and the layers around compute in f32, at the float model's speed:
ResNet-20 42 and WRN-16-1 46 dB from the trained student (W8A16).

*Sums*: the plugin computes an Add as part of one of the Conv in front of it and drops the quantizer
in between. Files with that quantizer came out at 18.6 dB (ResNet-20, W4A4), 32 dB (W8A8) and 22 dB
(MobileNetV2, W4A4); without it in the file, at 23.6, 42.4 and 41.4. So there is none, in training
either. Of two Conv the plugin merges the one whose other operand is quantized, so it is the first
operand that stays unrounded.
"""

from __future__ import annotations

from dfqonnx.core.quantization import INT8, UINT8
from dfqonnx.targets.profile import (
    Kernel,
    OpsetVersion,
    Packing,
    TargetProfile,
    WideActivations,
    register,
)

_MERGED = frozenset({"Add"})

OPENVINO = register(
    TargetProfile(
        name="openvino",
        about="OpenVINO on CPUs: sums of residual blocks are not rounded before they are added",
        runtime="OpenVINO",
        activations=UINT8,
        weights=INT8,
        kernels={
            "Conv": Kernel(absorbs=True, fused=_MERGED),
            "Gemm": Kernel(output="never", absorbs=True),
            "MatMul": Kernel(output="inside", absorbs=True, computed=True),
            "Add": Kernel(absorbs=True, constants=False, numbers=True),
            "Mul": Kernel(constants=False, numbers=True),
            "Concat": Kernel(),
            "AveragePool": Kernel(neutral=frozenset({"ceil_mode", "dilations"})),
            "GlobalAveragePool": Kernel(),
            "Sigmoid": Kernel(),
            "LeakyRelu": Kernel(),
            "HardSwish": Kernel(),
        },
        absorbed=frozenset({"Relu", "Clip"}),
        integer_clip=True,
        packings=(Packing(bits=4, opset=21),),
        opsets=(OpsetVersion(13, 8), OpsetVersion(21, 10)),
        shortcut_channels=256,
        divides=False,
        on_onnxruntime_cpu=False,
        best_widths=("w8a8", "w4a8"),
        wide_activations=WideActivations(
            "layers that read or make activations of 16 bits compute in float, at the float model's"
            " speed: OpenVINO's CPU plugin has no integer kernels for them"
        ),
        narrow_activations=(
            "W4A8 (--bits w4a8) has the same bytes as W4A4, is faster (2.4 against 2.0 times the"
            " float speed on ResNet-20) and loses less"
        ),
    )
)
