"""ONNX Runtime on x86-64 and Arm CPUs: the facts behind every rule, found by experiment.

*Activations* are uint8, whatever their width. With int8, ONNX Runtime rewrites pair by pair and
gives up where a quantized tensor has two readers, as in every residual block; uint4 and int4 never
reach an integer kernel. A zero point other than 0 costs nothing.

*Weights* are int8 with zero point 0; uint8 weights run at half the speed.

*Outputs*: a Conv without a quantizer behind it stays in float; a Gemm becomes QGemm with a float
output. So does the last MatMul; one inside a network needs its output quantized.

*Absorbed*: a Relu in front of a quantizer whose zero point is the smallest code, and a Clip whose
bound the quantizer keeps, vanish into Conv, Gemm, MatMul and Add.

*Integer Clip*: codes below 8 bits are kept in range by a Clip on the uint8 tensor. A float Clip, a
Min, or a true 4-bit type keep ONNX Runtime from using QLinearConv; this form is exact at the speed
of plain 8 bits. It is also what keeps ONNX Runtime from merging two quantizers in a row.

*Packing*: the Cast from INT4 folds when the file is loaded (1.23 and later), and what is left is
the graph with INT8 weights. An INT4 DequantizeLinear without the Cast never reaches an integer
kernel.

*Opsets*: per-channel DequantizeLinear came with 13, which ONNX Runtime 1.18 and its like load; INT4
with 21. What the installed version cannot load is refused when the float model is opened.

*First Conv*: the fast signed-weight kernel takes input channels in fours; the usual three colors
fall back to one that ran 1.2 to 1.6 times longer (3x3 and 7x7 Convs with 16 to 64 outputs). Below
16 output channels it is not used. A depthwise Conv wants channels in sixteens: with 8 each output
took 2.1 ns, with 16 0.8. So a narrow first Conv and the depthwise one behind it are filled up
(`export/narrow_stem.py`). Codes of images as NHWC are left alone: they are padded pixel by pixel.

*Numbers*: QLinearAdd and QLinearMul take a single number as second operand; code 1 with the number
as scale is exact.

*Sixteen bits* (uint16, opset 21): QuantizeLinear and DequantizeLinear have kernels, nothing else
has, a Clip neither. All that reads or makes such codes runs in float between them; Reshape,
Transpose and Slice move the codes. Outputs were equal with and without optimizations, operator by
operator, and pairs of 8 and 16 bits in a row stay as they are. It is right (84 dB from the trained
student), and slower than float: 0.64 times its speed on ResNet-20, 0.51 on WRN-16-1.

*Separated*: between DequantizeLinear and QuantizeLinear, Softmax becomes QLinearSoftmax, whose
table of exponentials moved 2 to 12 % of the codes by one level. The constant weights of a Conv,
ConvTranspose or Gemm that was left in float are rounded to 8 bits, with one scale for all channels,
and a float bias to 32 bits: 18 to 25 % of the codes behind a ConvTranspose moved, by up to 3
levels. A `Sum` of one operand before the node, which no optimization removes, keeps it as it is.

*Pools*: QLinearAveragePool counts cells that `ceil_mode` adds as real zeros (up to 128 levels off),
and does not know `dilations`: a file with them cannot be loaded.

*Volumes*: QLinearConv over three axes took 14 times as long as the float Conv with 1 input channel,
20 with 3, 2 with 8, and 1.5 when grouped, but 0.8 to 0.1 of it with 16 to 64. A Conv with fewer is
kept apart from its quantizers: float speed, and the size and numbers of integers.

*Shortcuts*: there is no integer Pad in the NHWC form; on ResNet-20 the five float and layout nodes
that each parameter-free shortcut costs took about 4 % of the run. A dense identity over more than
256 channels costs more than copying.
"""

from __future__ import annotations

from dfqonnx.core.quantization import INT8, UINT8
from dfqonnx.targets.profile import (
    DEFAULT_TARGET,
    ChannelPadding,
    Kernel,
    OpsetVersion,
    Packing,
    TargetProfile,
    WideActivations,
    register,
)

ONNXRUNTIME_CPU = register(
    TargetProfile(
        name=DEFAULT_TARGET,
        about="ONNX Runtime on x86-64 and Arm CPUs; 1.23 or later for weights below 5 bits",
        runtime="ONNX Runtime CPU",
        activations=UINT8,
        weights=INT8,
        kernels={
            "Conv": Kernel(absorbs=True, volume_channels=16),
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
        float_reasons={
            "Softmax": "its integer kernel is up to one level off in 2 to 12 % of codes"
        },
        separated=frozenset({"Softmax", "Conv", "ConvTranspose", "Gemm", "MatMul"}),
        absorbed=frozenset({"Relu", "Clip"}),
        integer_clip=True,
        hard_swish=True,
        packings=(Packing(bits=4, opset=21),),
        opsets=(OpsetVersion(13, 8), OpsetVersion(21, 10)),
        newer_opsets=True,
        first_conv_padding=ChannelPadding(multiple=4, min_outputs=16),
        shortcut_channels=256,
        best_widths=("w8a8", "w4a8"),
        wide_activations=WideActivations(
            "nodes that read or make activations of 16 bits compute in float between conversions,"
            " which is right and slower than the float model (0.5 to 0.65 times its speed): there"
            " are no integer kernels for them, and --keep-float NODE costs less time"
        ),
        narrow_activations=(
            "W4A8 (--bits w4a8) has the same bytes as W4A4, is faster here (2.4 against 2.0 times"
            " the float speed on ResNet-20: no Clip on the codes) and loses less"
        ),
    )
)
