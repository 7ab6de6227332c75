"""Qualcomm's HTP through ONNX Runtime's QNN execution provider.

Measured in the x86-64 emulator of onnxruntime-qnn 2.7.0:

*Groups*: a node runs on the HTP only as a whole group `DequantizeLinear -> node -> QuantizeLinear`
with nothing in between. An integer Clip breaks the group: its Conv is not taken, and the session is
refused. With a float Clip in front of the quantizer the session opens, but outputs are 1 to 12 dB
from those of the file: so activations of fewer than 8 bits have no form here.

*Pad on codes*: the tensor behind it has no quantization parameters, and the session is refused.
Without the Pad in front of the first Conv the same files open.

*Rounding* is that of fixed point. Of a Conv with the integer sum a (bias and round(z_y / M) in it)
and the multiplier M = s_x s_w / s_y of its channel, the code is

    floor(M' 2^k floor(a / 2^k) + 1/2),    k = max(0, floor(log2(1 / M)) - 3),

with M' = M rounded to 11 significant bits. No code was another one: single Conv with every sum from
0 to 32640, 16 multipliers of 1/12 to 1/4100 and two zero points, and random ones: dense with 3 to
256 inputs, and depthwise. A Gemm's codes are lower as often. The step M 2^k is 1/16 to 1/8 of a
code, so that 3 to 8 % of the codes are one lower than round to nearest. A depthwise Conv with a
stride does not do so.

*Sixteen bits*: of uint16 activations every kernel below has a form, with weights of 8 and 4 bits,
one partition, 48 dB and more for each operator alone (Conv of 8-bit codes: 38). Kernels want codes
of one width on all sides: of a Conv from uint8 to uint16 the weights went to the CPU. Between both,
DequantizeLinear -> QuantizeLinear is a conversion on the HTP. A dense Conv drops the lowest 8 bits
of its products' sum, and those of bias and zero points: with M a power of two, no code was another
one than floor(a / 2^8) 2^8 M gives, a depthwise Conv dropped nothing. So weights should be large
codes; an identity of code 1 was up to 255 codes off, of code 64 and scale 1/64 up to 3. Sigmoid,
HardSigmoid and Tanh of 16 bits write steps of 2^-16 from 0 and of 2^-15 around 0 (up to 4 codes
off), whatever the file says: with other scales they were 20 dB to -21 dB from it.

*Outputs*: a Gemm without a quantizer behind it runs on the CPU; with one whose range was
calibrated, all nodes but the first QuantizeLinear and the last DequantizeLinear are one partition.

*Weights*: INT4 codes load with or without the Cast to INT8; one scale per output channel.

*Exp*: UltraFace, whose boxes end in `Mul -> Exp -> Mul`, could not be finalized while Exp was in
float (QNN_COMMON_ERROR_MEM_ALLOC 1002); with quantizers on both sides of it, it is one partition.
One that is left in float all the same is cut from what reads it: a node in between that the HTP
does not have, a Sum of one operand, makes two partitions, and the file opens.

*Shared codes*: the provider keeps one scale for a tensor of constants, so that of two
DequantizeLinear with one initializer the second gets the scale of the first: WRN-16-1, whose left-
over BatchNormalization are Conv with equal codes, came out at 4 dB, with codes of their own at 28.
So with single numbers, whose code is 0 or 1 whatever they are: PP-OCR's detector, which has 16 of
them, came out at 0 dB.

From public pages (ONNX Runtime's QNN provider, its list of operators; Qualcomm's list of HTP
operators): uint8 activations with a zero point; HardSwish, Softmax, Tanh and ReduceMean have
integer kernels, so that they, too, stay on the HTP.
"""

from __future__ import annotations

from dfqonnx.core.quantization import INT8, UINT8
from dfqonnx.targets.profile import (
    FixedCodes,
    Kernel,
    OpsetVersion,
    Packing,
    TargetProfile,
    WideActivations,
    WidthLimit,
    register,
)

ONNXRUNTIME_QNN = register(
    TargetProfile(
        name="onnxruntime-qnn",
        about="Qualcomm HTP (Snapdragon) through ONNX Runtime's QNN provider",
        runtime="ONNX Runtime QNN",
        activations=UINT8,
        weights=INT8,
        kernels={
            "Conv": Kernel(absorbs=True),
            "Gemm": Kernel(absorbs=True),
            "MatMul": Kernel(absorbs=True, computed=True),
            "Add": Kernel(absorbs=True, constants=False, numbers=True),
            "Sub": Kernel(constants=False, numbers=True),
            "Mul": Kernel(constants=False, numbers=True),
            "Concat": Kernel(),
            "AveragePool": Kernel(neutral=frozenset({"ceil_mode", "dilations"})),
            "GlobalAveragePool": Kernel(),
            "ReduceMean": Kernel(),
            "Sigmoid": Kernel(),
            "HardSigmoid": Kernel(),
            "Tanh": Kernel(),
            "Exp": Kernel(),
            "LeakyRelu": Kernel(),
            "HardSwish": Kernel(),
            "Softmax": Kernel(),
        },
        cut_behind=frozenset({"Exp"}),
        absorbed=frozenset({"Relu", "Clip"}),
        quantized_tail=frozenset({"Exp"}),
        integer_clip=False,
        own_codes=True,
        integer_pad=False,
        packings=(Packing(bits=4, opset=21, bare=True),),
        opsets=(OpsetVersion(13, 8), OpsetVersion(21, 10)),
        shortcut_channels=256,
        divides=False,
        on_onnxruntime_cpu=False,
        evidence="emulated",
        least_activations=WidthLimit(
            8,
            "a range of fewer codes needs a Clip, on codes or in front of them, and with either the"
            " HTP refuses the file or computes something else",
            "w4a8",
        ),
        best_widths=("w8a8", "w4a8", "w8a16"),
        wide_activations=WideActivations(
            "activations of 16 bits take twice the memory of 8 bits and more time on the HTP (how"
            " much, no emulator says), and keep what its fixed point loses at 8 bits (MobileNetV1:"
            " 46 instead of 26 dB to the trained student)",
            on_integers=True,
            one_width=True,
            fixed={
                "Sigmoid": FixedCodes(2.0**-16, 0),
                "HardSigmoid": FixedCodes(2.0**-16, 0),
                "Tanh": FixedCodes(2.0**-15, 32768),
            },
        ),
    )
)
