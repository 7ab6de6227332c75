"""A file for all runtimes that were tried: ONNX Runtime, OpenVINO, QNN, tract, IREE, TVM.

Measured: INT4 weights keep a file from ONNX Runtime before 1.23 ("tensor type 22 is not supported",
"Could not find an implementation for Cast(21)"), tract ("Unknown DatumType Int4"), IREE ("failed to
legalize memref.get_global ... xi4") and TVM (packed tensors are not read); INT8 weights at opset 13
load in each. A Pad on codes keeps it from QNN's HTP. So there is neither.

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
