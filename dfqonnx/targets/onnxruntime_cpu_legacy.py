"""ONNX Runtime CPU from 1.18 on, in the form that those before 1.23 load.

Measured on one thread of an x86-64 CPU with VNNI, four networks: 1.18.1 says of an INT4 tensor
"tensor type 22 is not supported", 1.20.1 has no Cast from INT4. With INT8 weights at opset 13 both
load W8A8, W4A8 and W4A4, and compute bit for bit what 1.31.1 does, at 2.2 to 2.5 times the float
speed of ResNet-20. The kernels, and so all rules of placement, are those of `onnxruntime_cpu`.

A weight takes a byte whatever its width: fewer bits than 8 make no smaller file.
"""

from __future__ import annotations

from dataclasses import replace

from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import register

ONNXRUNTIME_CPU_LEGACY = register(
    replace(
        ONNXRUNTIME_CPU,
        name="onnxruntime-cpu-legacy",
        about="ONNX Runtime CPU 1.18 and later: every weight in a byte, opset 13 where it can be",
        packings=(),
        newer_opsets=False,
        wide_activations=None,
        no_wide_activations="codes of 16 bits need opset 21, and older versions load 13",
        best_widths=("w8a8",),
        narrow_weights=(
            "this target stores every weight in a byte, so fewer bits only lose accuracy: W8A8 has"
            " the same size"
        ),
        narrow_activations=(
            "fewer than 8 bits of activations cost a Clip on the codes and save nothing: W8A8 is"
            " as small and faster"
        ),
    )
)
