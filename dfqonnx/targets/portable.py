"""A file for all runtimes that were tried: ONNX Runtime, OpenVINO, QNN, tract, IREE, TVM.

Measured: INT4 weights keep a file from ONNX Runtime before 1.23 ("tensor type 22 is not supported",
"Could not find an implementation for Cast(21)"), tract ("Unknown DatumType Int4"), IREE ("failed to
legalize memref.get_global ... xi4") and TVM (packed tensors are not read); INT8 weights at opset 13
load in each. A Pad on codes keeps it from QNN's HTP. So there is neither.

IREE 3.13 compares the uint8 codes that a Clip or MaxPool reads as if they were int8, so that each
code above 127 counts as a negative one: of codes 0 to 255 a Clip(50, 100) got 128 wrong, a Clip(0,
200) 200, a 2x2 MaxPool 58 of 64. PP-OCR's text detector, each HardSwish of which had such a Clip,
came out at 0 dB, while IREE had the float model right (116 dB) and every other runtime the file.
Both are right on int8 and on float32. So are Max, Min, ReduceMax, ReduceMin, Concat, Resize, Pad,
Slice, Gather and Transpose on uint8, but ONNX Runtime 1.18 and 1.23 have no Min of uint8. So codes
that are compared are cast to float32 for it and back: the same codes everywhere, IREE at 27 dB as
ONNX Runtime, which runs at 1.73 times the float model's speed instead of 1.90. A Clip on reals
between two pairs is fused by OpenVINO: that detector at 14.5 dB there instead of 24.

Some of them multiply by the inverse of a scale, where QuantizeLinear divides.

Kernels are those of ONNX Runtime CPU, which are the ones that were measured for speed.
"""

from __future__ import annotations

from dataclasses import replace

from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import register

PORTABLE = register(
    replace(
        ONNXRUNTIME_CPU,
        name="portable",
        about="one file for ONNX Runtime 1.18 and later, OpenVINO, tract, IREE and TVM",
        packings=(),
        newer_opsets=False,
        first_conv_padding=None,
        integer_pad=False,
        signed_comparisons=frozenset({"Clip", "MaxPool"}),
        divides=False,
        wide_activations=None,
        no_wide_activations=(
            "codes of 16 bits need opset 21, which runtimes that this target is for do not all take"
        ),
        best_widths=("w8a8",),
        narrow_weights=(
            "this target stores every weight in a byte, so fewer bits only lose accuracy: W8A8 has"
            " the same size"
        ),
        narrow_activations=(
            "fewer than 8 bits of activations put a Clip on the codes, which Qualcomm's HTP"
            " refuses: W8A8 is as small and loads there"
        ),
    )
)
