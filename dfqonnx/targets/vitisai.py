"""AMD's DPU and Ryzen AI NPU through Vitis AI, by their public rules: no file was run there.

*Scales* are powers of two, one for a whole tensor, of weights as well; codes are int8 with zero
point 0 (MQBench's page on Vitis: per-tensor, symmetric, power-of-two; Vitis AI's and Optimum's
presets for Ryzen AI calibrate to powers of two).

*Biases* are int32 at the accumulator's scale, which then is a power of two as well. Whether a DPU
wants them in 8 bits was not found out.
"""

from __future__ import annotations

from dfqonnx.core.quantization import INT8
from dfqonnx.targets.profile import Kernel, OpsetVersion, TargetProfile, WidthLimit, register

_EIGHT_BITS = "its integers have 8 bits, so fewer codes save neither bytes nor time"

VITISAI = register(
    TargetProfile(
        name="vitisai",
        about="AMD DPU and Ryzen AI NPU (Vitis AI): scales of powers of two, one per tensor",
        runtime="Vitis AI",
        activations=INT8,
        weights=INT8,
        per_channel=False,
        power_of_two=True,
        kernels={
            "Conv": Kernel(absorbs=True),
            "Gemm": Kernel(absorbs=True),
            "Add": Kernel(absorbs=True, constants=False),
            "Mul": Kernel(constants=False),
            "Concat": Kernel(),
            "AveragePool": Kernel(neutral=frozenset({"ceil_mode", "dilations"})),
            "GlobalAveragePool": Kernel(),
        },
        absorbed=frozenset({"Relu", "Clip"}),
        integer_clip=False,
        integer_pad=False,
        opsets=(OpsetVersion(13, 8), OpsetVersion(21, 10)),
        on_onnxruntime_cpu=False,
        evidence="rules",
        least_weights=WidthLimit(8, _EIGHT_BITS, "w8a8"),
        least_activations=WidthLimit(8, _EIGHT_BITS, "w8a8"),
        best_widths=("w8a8",),
    )
)
