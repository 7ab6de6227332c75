"""Where quantizers stand, decided once on the normalized ONNX graph, and their parameters.

Training (fakequant) and export read the same `QuantizationPlan`, so what was trained is what is
exported.

    v --Q/DQ(v)--+-- Add                    ActivationQuantizer(name="v", tensor="v", 8 bits)
                 +-- Slice --w-- Add        SharedQuantizer(tensor="w", of="v"): same scale
                 +-- Q/DQ(v@4) -- Conv      ActivationQuantizer(name="v@4", tensor="v",
                                                                consumers=("conv",), 4 bits)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.quantization import MAX_BITS, BitWidths, IntegerRange, count_steps

QUANTIZER_PREFIX = "Q "
"""An exported file names the QuantizeLinear of an activation by this and the quantizer's name."""
SEPARATOR_PREFIX = "apart "
"""It names a Sum that keeps a node apart from its quantizers by this and the node's name."""


@dataclass(frozen=True, kw_only=True)
class ActivationQuantizer:
    """A per-tensor quantizer on an activation.

    Attributes:
        name: unique key; equals `tensor` when the quantizer stands at the producer.
        tensor: value name on the normalized graph.
        consumers: names of the nodes that read through this quantizer, a consumer-side requantizer
            of a tensor that is already quantized, more finely, at its producer. Empty for a
            quantizer at the producer, which every consumer sees.
        clip_max: real upper bound of a fused Clip (6.0 for ReLU6): codes also stay at or below
            `rint(clip_max / scale)`. None without one; infinite where equalization took it away, so
            that the Clip is written as a Relu.
        role: `input`, `residual` (operand of an elementwise node), `node-input` (feeds Conv, Gemm
            or MatMul), `classifier-input` or `output`.
        unit: a real number that is a whole number of steps: the scale is `unit / k`. It is 3.0 in
            front of a HardSwish, which is written with codes at -3 and 3; None leaves the scale.
            Where the zero point is open, the smallest code is that of -unit: the HardSwish, which
            alone reads the tensor, makes 0 of all that lies below.
        feature: whether the tensor closes a block (a residual sum, or an activation where there
            are no residuals); such tensors are what feature distillation compares.
        asymmetric: whether calibration chooses the code of real 0, so that both ends of the range
            follow the values; else it is that of `grid`.
        raw: names of the nodes that read the network's input as it is, not quantized: those behind
            the last layer, which pass it on to an output. Empty for any other tensor.
        power_of_two: whether the scale is one; training then leaves it where calibration put it.
        fixed_scale: the scale, where the target's kernel knows no other one; None leaves it open.
    """

    name: str
    tensor: str
    grid: IntegerRange
    consumers: tuple[str, ...] = ()
    clip_max: float | None = None
    role: str = "residual"
    unit: float | None = None
    feature: bool = False
    asymmetric: bool = False
    raw: tuple[str, ...] = ()
    power_of_two: bool = False
    fixed_scale: float | None = None

    def steps(self, scale: float) -> int:
        """Return k, the steps that `unit` has at a scale near `scale`: at most those below zero."""
        assert self.unit is not None
        codes = self.grid.hi - self.grid.lo
        most = codes - 1 if self.asymmetric else self.grid.zero_point - self.grid.lo
        return count_steps(self.unit, scale, most=most)

    def grid_of_unit(self, scale: float) -> IntegerRange:
        """Return the codes at a scale near `scale`, of a quantizer with a `unit`."""
        if not self.asymmetric:
            return self.grid
        return replace(self.grid, zero_point=self.grid.lo + self.steps(scale))


@dataclass(frozen=True)
class SharedQuantizer:
    """A tensor behind value-preserving nodes (MaxPool, Reshape, Slice ...): same scale and codes.

    `of` names the `ActivationQuantizer` whose parameters it shares, `node` is the value-preserving
    node, `tensor` its output.
    """

    tensor: str
    of: str
    node: str


@dataclass(frozen=True, kw_only=True)
class WeightQuantizer:
    """The weight (and bias) of one Conv, Gemm or MatMul.

    `input` names the `ActivationQuantizer` that the node reads; the scale of the bias is its scale
    times the weight's, unless `float_bias` leaves the bias as it is. Scales that are to be a
    `power_of_two` are not trained.
    """

    node: str
    op: str
    weight: str  # initializer name
    bias: str | None  # initializer name; None for MatMul
    grid: IntegerRange
    axis: int  # of the output channels
    input: str
    per_channel: bool = True  # one scale per index of the axis, else all have the same one
    power_of_two: bool = False
    float_bias: bool = False


@dataclass(frozen=True)
class FloatNode:
    """A node that stays in float, and why."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class QuantizationPlan:
    """The whole decision; `target` is the name of the profile that it was made for.

    `isolated` are nodes that the target's optimizer must not fuse with the quantizers around them,
    because it would compute other numbers; their quantizers, if they have any, stay.
    """

    activations: tuple[ActivationQuantizer, ...]
    shared: tuple[SharedQuantizer, ...]
    weights: tuple[WeightQuantizer, ...]
    floats: tuple[FloatNode, ...]
    target: str
    isolated: tuple[str, ...] = ()

    def isolating(self, node: FloatNode) -> Self:
        """Return the plan with one more isolated node, which runs in float for the reason given."""
        floats = self.floats
        if node.node not in {each.node for each in floats}:
            floats = (*floats, node)
        return replace(self, floats=floats, isolated=(*self.isolated, node.node))

    def narrowest(self) -> BitWidths:
        """Return the narrowest weights and node inputs; 8 bits where there are none."""
        read = {quantizer.input for quantizer in self.weights}
        activations = [each.grid.bits for each in self.activations if each.name in read]
        weights = [quantizer.grid.bits for quantizer in self.weights]
        return BitWidths(min(weights, default=8), min(activations, default=8))

    def narrow_inputs(self) -> frozenset[str]:
        """Return the quantizers of the network's inputs whose codes are in 8 bits, by name."""
        return frozenset(
            each.name
            for each in self.activations
            if each.role == "input" and each.grid.bits <= MAX_BITS
        )


@dataclass(frozen=True)
class ActivationParameters:
    """Trained parameters of an `ActivationQuantizer`; `hi` has `clip_max` already applied."""

    scale: float
    zero_point: int
    lo: int
    hi: int


@dataclass(frozen=True)
class WeightParameters:
    """Trained parameters of a `WeightQuantizer`."""

    codes: NDArray[np.int8 | np.uint8]  # in the target's container, the weight's shape
    scale: NDArray[np.float32]  # one per output channel, all equal where there is one for all
    # per channel: codes at scale `s_x * scale`, or reals where the bias is float; None without one
    bias: NDArray[np.int32] | NDArray[np.float32] | None


@dataclass(frozen=True)
class QuantizationParameters:
    """All trained parameters: by the quantizer's name, and by node name for weights."""

    activations: Mapping[str, ActivationParameters]
    weights: Mapping[str, WeightParameters]


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and variance of a tensor over the training data, per channel: float32 [C].

    Source: a BatchNormalization's affine form. Its output is `gamma * (x - mu) / sqrt(var + eps) +
    beta`, so on the training data it has mean beta and variance gamma^2 var / (var + eps).
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    # gamma / sqrt(var + eps), by which it multiplied its input; None where that is unknown
    gain: NDArray[np.float32] | None = None
