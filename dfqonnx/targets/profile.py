"""A runtime as placement, fake quantization, export and audit need to know it.

    operator -> Kernel     what its integer kernel needs around it
    NumberFormat           the integers that activations and weights may take
    WidthLimit             the fewest bits of them, and why
    opsets, packing        the form of the file

A profile holds facts about a runtime. What an operator is whatever runs it (weighted,
value-preserving ...) stands in `graph/op_traits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dfqonnx.core.quantization import IntegerRange, NumberFormat
from dfqonnx.core.registry import Registry

TARGET_KEY = "dfqonnx.target"
Evidence = Literal["run", "emulated", "rules"]
"""Files were run there, in an emulator of its maker, or are made by published rules only."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What an operator's integer kernel needs around it.

    The `output` has to be quantized too: `always`; `inside` for a layer that gives floats as the
    last one, but needs it in front of others; or `never`.
    """

    output: Literal["always", "inside", "never"] = "always"
    absorbs: bool = False  # an activation between it and the quantizer behind it
    constants: bool = True  # whether one of its two operands may be a constant
    numbers: bool = False  # whether one of them may be a single number, as a code of its own scale
    # input channels of a group from which its kernel for volumes is faster than the float one
    volume_channels: int = 0
    computed: bool = False  # whether a layer may multiply two computed values, both quantized
    # attributes that it ignores or refuses; a node that sets one of them stays in float
    neutral: frozenset[str] = frozenset()
    # operators behind it that read its sums before they are rounded: a quantizer in between would
    # be dropped, so there is none; of two such operands of one node it is the first
    fused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class OpsetVersion:
    """A version of the operators, and the IR version of a file that holds them."""

    opset: int
    ir_version: int


@dataclass(frozen=True)
class Packing:
    """Narrow weights, several to a byte: `INT4 initializer -> Cast(INT8) -> DequantizeLinear`."""

    bits: int  # of the packed type, 4 or 2: the widest weights that are packed
    opset: int  # the first one with such tensors
    bare: bool = False  # whether kernels take such weights without the Cast, too


@dataclass(frozen=True)
class WidthLimit:
    """The fewest bits that a target takes, and why it takes no fewer."""

    bits: int
    reason: str  # a clause: what goes wrong below
    instead: str  # widths to ask for, such as `w4a8`


@dataclass(frozen=True)
class FixedCodes:
    """Scale and code of real 0 that a kernel gives its results, whatever the file says."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class WideActivations:
    """How a target takes activations of 16 bits.

    `on_integers` it has kernels for them, else it computes in float between the codes. With
    `one_width` a kernel wants containers of one width for all codes that it reads and makes;
    those of another width are converted in front of it. `fixed` are codes of what operators make.
    """

    advice: str  # what a run says that has them: what they cost there, a clause
    on_integers: bool = False
    one_width: bool = False
    fixed: Mapping[str, FixedCodes] = field(default_factory=dict)


@dataclass(frozen=True)
class ChannelPadding:
    """Input channels of the first Conv, filled up with zeros because its kernel is faster then.

    Where it has fewer outputs and a depthwise Conv reads them, those are filled up as well.
    """

    multiple: int  # of the channels
    min_outputs: int  # output channels from which the faster kernel is used


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """What one runtime can do.

    A Clip keeps codes in a range that is narrower than their container: between QuantizeLinear and
    DequantizeLinear with `integer_clip`, else on the reals in front of both.
    """

    name: str  # as `--target` takes it
    about: str  # one line for a person who chooses
    runtime: str  # how reasons and messages call it
    activations: NumberFormat
    weights: NumberFormat
    per_channel: bool = True  # one scale per output channel of a weight, else one per weight
    power_of_two: bool = False  # whether every scale is one
    float_bias: bool = False  # whether biases stay float32, else int32 at the accumulator's scale
    kernels: Mapping[str, Kernel]  # by operator; one without a kernel stays in float
    float_reasons: Mapping[str, str] = field(default_factory=dict)  # where there is more to say
    # operators that its optimizer changes the numbers of between two quantizers, without a kernel
    # that placement counts on: one in float is kept apart from them, see `export/separation.py`
    separated: frozenset[str] = frozenset()
    # operators in float that it does not compile together with what reads them
    cut_behind: frozenset[str] = frozenset()
    absorbed: frozenset[str] = frozenset()  # see `Kernel.absorbs`
    # operators that are quantized behind the last layer too, because no file with them in float
    # can be loaded
    quantized_tail: frozenset[str] = frozenset()
    integer_clip: bool
    # operators that compare uint8 codes as if they were int8: they read them as float32 then, see
    # `export/signed_comparisons.py`
    signed_comparisons: frozenset[str] = frozenset()
    integer_pad: bool = True  # whether a Pad may stand on codes
    hard_swish: bool = False  # whether HardSwish may be a product of codes, `export/hard_swish.py`
    packings: tuple[Packing, ...] = ()  # narrowest first; without, all are in 8-bit containers
    # whether each DequantizeLinear needs codes of its own: the runtime keeps one scale a tensor
    own_codes: bool = False
    # operators whose constants need no zero points of 0 in the file, which saves bytes
    zero_points_left_out: frozenset[str] = frozenset()
    opsets: tuple[OpsetVersion, ...]  # oldest first; a file takes the first one that can hold it
    newer_opsets: bool = False  # whether a newer model keeps its own; else it is refused
    first_conv_padding: ChannelPadding | None = None  # None leaves the first Conv as it is
    shortcut_channels: int = 0  # widest strided shortcut that becomes one 1x1 Conv; 0 never
    # whether it rounds x / s, as QuantizeLinear does; others round x (1 / s), or in fixed point
    divides: bool = True
    # whether ONNX Runtime's CPU kernels, with its optimizations, are what runs the file: only then
    # do its kernels, its speed and its optimized numbers say something of the target
    on_onnxruntime_cpu: bool = True
    evidence: Evidence = "run"
    least_weights: WidthLimit | None = None  # None takes all that a file may have
    least_activations: WidthLimit | None = None
    best_widths: tuple[str, ...]  # the best first
    wide_activations: WideActivations | None = None  # None takes none of 16 bits, because of:
    no_wide_activations: str = "its integers have 8 bits"
    narrow_weights: str = ""  # what a run says whose weights have fewer than 8 bits
    narrow_activations: str = ""  # the same of what Conv, Gemm and MatMul read

    def float_reason(self, op: str) -> str:
        """Return why an operator without a kernel stays in float."""
        default = f"{self.runtime} has no integer kernel for {op}"
        return self.float_reasons.get(op, default)

    def packing_of(self, weights: IntegerRange, storage: str) -> Packing | None:
        """Return how such weights are packed, None in 8 bits; `storage` is what the user chose."""
        packings = self.packings if storage == "auto" else ()
        return next((each for each in packings if weights.bits <= each.bits), None)


ELSEWHERE = {  # what people and other tools call a runtime -> its target
    **dict.fromkeys(("onnxruntime", "ort", "cpu", "cpuexecutionprovider"), "onnxruntime-cpu"),
    **dict.fromkeys(("web", "wasm", "ort-web", "onnxruntime-wasm"), "onnxruntime-web"),
    **dict.fromkeys(("qnn", "snpe", "htp", "npu", "qnnexecutionprovider"), "onnxruntime-qnn"),
    **dict.fromkeys(("trt", "cuda", "gpu", "nvidia", "tensorrtexecutionprovider"), "tensorrt"),
    **dict.fromkeys(("ov", "intel", "openvinoexecutionprovider"), "openvino"),
    **dict.fromkeys(("vitis", "ryzen", "ryzenai", "xdna", "quark"), "vitisai"),
    **dict.fromkeys(("stm32ai", "cubeai", "stedgeai", "st"), "stm32"),
    **dict.fromkeys(("tract", "iree", "tvm", "any", "generic", "all"), "portable"),
}
TARGETS: Registry[TargetProfile] = Registry("--target", ELSEWHERE)
DEFAULT_TARGET = "onnxruntime-cpu"


def register(profile: TargetProfile) -> TargetProfile:
    """File the profile under its name."""
    return TARGETS.add(profile.name)(profile)


def recorded_target(metadata: Mapping[str, str]) -> TargetProfile:
    """Return the target that a file says it is for; the default where that is not known here."""
    name = metadata.get(TARGET_KEY, "")
    return TARGETS[name if name in TARGETS else DEFAULT_TARGET]
