"""NVIDIA TensorRT, by its public rules: no file was run there.

*Codes* are int8 with zero point 0 throughout ("TRT only supports symmetric quantization - zeroPt
must be all zeros", the parser's assertion as quoted in tensorflow-onnx issue 1713; uint8 codes are
read as int8 with a warning). A tensor without negative numbers keeps 0 to 127.

*Biases* stay float: of an int32 bias behind DequantizeLinear its parser says "only activation types
allowed as input to this layer" (onnxruntime issue 14229, onnx-tensorrt issue 850).

Whether it divides by a scale was not found out, so it is not counted on.

*Clip* stands on the reals, in front of QuantizeLinear: a Clip on codes is no part of its fusions.

*Sums*: NVIDIA's quantization toolkit quantizes both inputs of a residual Add.

*INT4* is for weights alone, in blocks, in matrix products (TensorRT's "Working with Quantized
Types"): here every weight takes a byte.
"""

from __future__ import annotations

from dfqonnx.core.quantization import INT8
from dfqonnx.targets.profile import Kernel, OpsetVersion, TargetProfile, register

TENSORRT = register(
    TargetProfile(
        name="tensorrt",
        about="NVIDIA TensorRT 8 and later: int8 with zero point 0, biases in float",
        runtime="TensorRT",
        activations=INT8,
        weights=INT8,
        float_bias=True,
        kernels={
            "Conv": Kernel(absorbs=True),
            "Gemm": Kernel(output="never", absorbs=True),
            "MatMul": Kernel(output="inside", absorbs=True, computed=True),
            "Add": Kernel(absorbs=True, constants=False),
            "Concat": Kernel(),
            "AveragePool": Kernel(neutral=frozenset({"ceil_mode", "dilations"})),
            "GlobalAveragePool": Kernel(),
        },
        absorbed=frozenset({"Relu", "Clip"}),
        integer_clip=False,
        integer_pad=False,
        opsets=(OpsetVersion(13, 8), OpsetVersion(21, 10)),
        divides=False,
        on_onnxruntime_cpu=False,
        evidence="rules",
        best_widths=("w8a8",),
        narrow_weights=(
            "this target stores every weight in a byte, so fewer bits only lose accuracy: W8A8 has"
            " the same size"
        ),
        narrow_activations="fewer than 8 bits of activations cost a Clip and save nothing",
    )
)
