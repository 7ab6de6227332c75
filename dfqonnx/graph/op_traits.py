"""The table of operators: what each ONNX operator is to a quantizer, independent of any runtime.

No other file holds a set of operator names (what a runtime's kernels can do stands in `targets/`).
A trait that a row carries is a promise, which the tests check against ONNX's own definitions. A
trait that a row lacks says nothing: whoever asks then takes the careful way.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Flag, auto
from functools import cache
from types import MappingProxyType


class Trait(Flag):
    """What an operator is; x is its first input, y its output."""

    # Weights
    LAYER = auto()  # a product with a weight (input 1) that dfqonnx quantizes; input 2 is a bias
    WEIGHTED = auto()  # a product with a weight (input 1), quantized or not
    NORMALIZES = auto()  # divides by statistics of x itself: sums whole planes, in any order

    # Windows
    WINDOWED = auto()  # slides a window over x: `kernel_shape`, `strides`, `pads`, `auto_pad`
    ZERO_PADDED = auto()  # what its `pads` add to x counts as zeros
    POOLING = auto()  # reduces windows, or all positions, of each channel by itself

    # Algebra
    ELEMENTWISE = auto()  # y has the shape of x, and y[i] depends on x[i] (and its channel) alone
    HOMOGENEOUS = auto()  # f(a x) = a f(x) for every a > 0 per channel: channels stay channels
    SHIFT_EQUIVARIANT = auto()  # f(x + c) = f(x) + c where x >= 0, for a c >= 0 per channel
    MEAN_PRESERVING = auto()  # the mean of a channel of y is that of x (padding aside)
    AFFINE = auto()  # with one constant operand, an affine map of the other one
    LINEAR = auto()  # the same without a number that is added
    COMMUTATIVE = auto()  # of two operands, in any order
    EXTREMUM = auto()  # the larger or smaller one of its operands
    CLAMP = auto()  # limits x to a range
    UPPER_BOUND = auto()  # can limit x from above
    SOFTMAX = auto()  # scores to probabilities or their logarithms: what enters are logits

    # Signs
    NON_NEGATIVE = auto()  # y >= 0, whatever it reads
    NON_NEGATIVE_IF_FIRST = auto()  # y >= 0 where x >= 0
    NON_NEGATIVE_IF_ALL = auto()  # y >= 0 where all of its inputs are

    # Values handed on
    VALUE_PRESERVING = auto()  # every number of y is one of x, so codes of x are codes of y
    MOVES = auto()  # numbers of its inputs (or a filling), taken by their places, not their values
    ROW_MAJOR = auto()  # another shape for the same numbers in the same row-major order
    REARRANGES_AXES = auto()  # all numbers of x, with axes renamed, merged, split or permuted

    # Not for gradients, not for integers
    DECISION = auto()  # y jumps with x: indices, selections, one-hot codes
    RANDOM = auto()  # another y at each run
    CONTROL_FLOW = auto()  # runs graphs of its own
    CODES = auto()  # between real numbers and codes, both ways
    QUANTIZED = auto()  # stands in quantized networks only
    MAY_READ_INFINITY = auto()  # its constants are bounds, fillings or compared with: never summed

    # Versions
    SAME_SINCE_13 = auto()  # means at opset 13 what it means at 21


T = Trait
_LAYER = T.LAYER | T.WEIGHTED | T.SAME_SINCE_13
_MAPS_CHANNELS = T.ELEMENTWISE | T.HOMOGENEOUS
_SUM_OR_PRODUCT = T.AFFINE | T.COMMUTATIVE | T.NON_NEGATIVE_IF_ALL | T.SAME_SINCE_13
_POSITIVE = T.ELEMENTWISE | T.NON_NEGATIVE
_MAXIMUM = T.VALUE_PRESERVING | T.NON_NEGATIVE_IF_FIRST
_MOVE = T.MOVES | T.VALUE_PRESERVING | T.NON_NEGATIVE_IF_FIRST
_RESHAPE = _MOVE | T.ROW_MAJOR | T.REARRANGES_AXES | T.SAME_SINCE_13

OP_TRAITS: Mapping[str, Trait] = MappingProxyType({
    "Abs": _POSITIVE,
    "Add": _SUM_OR_PRODUCT,
    "ArgMax": T.DECISION,
    "ArgMin": T.DECISION,
    "AveragePool": T.POOLING | T.WINDOWED | T.ZERO_PADDED | T.HOMOGENEOUS | T.MEAN_PRESERVING
    | T.NON_NEGATIVE_IF_FIRST | T.SAME_SINCE_13,
    "Bernoulli": T.RANDOM,
    "Cast": T.SAME_SINCE_13,
    "Clip": T.ELEMENTWISE | T.CLAMP | T.UPPER_BOUND | T.MAY_READ_INFINITY | T.SAME_SINCE_13,
    "Compress": T.DECISION,
    "Concat": T.MOVES | T.NON_NEGATIVE_IF_ALL | T.SAME_SINCE_13,
    "Conv": _LAYER | T.WINDOWED | T.ZERO_PADDED,
    "ConvInteger": T.QUANTIZED,
    "ConvTranspose": T.WEIGHTED | T.SAME_SINCE_13,
    "DepthToSpace": _MOVE,
    "DequantizeLinear": T.CODES | T.QUANTIZED | T.SAME_SINCE_13,
    "Div": T.AFFINE | T.LINEAR | T.NON_NEGATIVE_IF_ALL | T.SAME_SINCE_13,
    "DynamicQuantizeLinear": T.QUANTIZED,
    "Elu": T.ELEMENTWISE | T.SAME_SINCE_13,
    "Equal": T.MAY_READ_INFINITY,
    "Exp": _POSITIVE | T.SAME_SINCE_13,
    "Expand": _MOVE,
    "Flatten": _RESHAPE | T.SHIFT_EQUIVARIANT | T.MEAN_PRESERVING,
    "Gather": _MOVE,
    "Gemm": _LAYER,
    "GlobalAveragePool": T.POOLING | T.HOMOGENEOUS | T.SHIFT_EQUIVARIANT | T.MEAN_PRESERVING
    | T.NON_NEGATIVE_IF_FIRST | T.SAME_SINCE_13,
    "GlobalMaxPool": T.POOLING | _MAXIMUM | T.SAME_SINCE_13,
    "Greater": T.MAY_READ_INFINITY,
    "GroupNormalization": T.NORMALIZES,
    "HardSigmoid": _POSITIVE | T.SAME_SINCE_13,
    "Hardmax": T.DECISION,
    "Identity": _MOVE | _MAPS_CHANNELS | T.SHIFT_EQUIVARIANT | T.MEAN_PRESERVING
    | T.REARRANGES_AXES | T.SAME_SINCE_13,
    "If": T.CONTROL_FLOW,
    "InstanceNormalization": T.NORMALIZES,
    "LayerNormalization": T.NORMALIZES,
    "LeakyRelu": _MAPS_CHANNELS | T.NON_NEGATIVE_IF_FIRST | T.SAME_SINCE_13,
    "Less": T.MAY_READ_INFINITY,
    "LogSoftmax": T.SOFTMAX,
    "Loop": T.CONTROL_FLOW,
    "MatMul": _LAYER,
    "MatMulInteger": T.QUANTIZED,
    "Max": T.EXTREMUM | T.MAY_READ_INFINITY | T.NON_NEGATIVE_IF_ALL,
    "MaxPool": T.POOLING | T.WINDOWED | T.HOMOGENEOUS | T.SHIFT_EQUIVARIANT | _MAXIMUM
    | T.SAME_SINCE_13,
    "MaxUnpool": T.MOVES | T.NON_NEGATIVE_IF_FIRST,
    "Min": T.EXTREMUM | T.UPPER_BOUND | T.MAY_READ_INFINITY | T.NON_NEGATIVE_IF_ALL,
    "Mul": _SUM_OR_PRODUCT | T.LINEAR,
    "Multinomial": T.RANDOM,
    "NonMaxSuppression": T.DECISION,
    "NonZero": T.DECISION,
    "PRelu": _MAPS_CHANNELS,
    "Pad": T.MOVES | T.MAY_READ_INFINITY | T.SAME_SINCE_13,
    "QLinearConv": T.QUANTIZED,
    "QLinearMatMul": T.QUANTIZED,
    "QuantizeLinear": T.CODES | T.QUANTIZED | T.SAME_SINCE_13,
    "RandomNormal": T.RANDOM,
    "RandomNormalLike": T.RANDOM,
    "RandomUniform": T.RANDOM,
    "RandomUniformLike": T.RANDOM,
    "ReduceMax": _MAXIMUM,
    "ReduceMean": T.NON_NEGATIVE_IF_FIRST,
    "Relu": _MAPS_CHANNELS | T.SHIFT_EQUIVARIANT | T.CLAMP | T.NON_NEGATIVE | T.SAME_SINCE_13,
    "Reshape": _RESHAPE,
    "Scan": T.CONTROL_FLOW,
    "SequenceMap": T.CONTROL_FLOW,
    "Sigmoid": _POSITIVE | T.SAME_SINCE_13,
    "Slice": _MOVE | T.SAME_SINCE_13,
    "Softmax": T.SOFTMAX | T.NON_NEGATIVE | T.SAME_SINCE_13,
    "Softplus": _POSITIVE,
    "SpaceToDepth": _MOVE,
    "Split": _MOVE,
    "Sqrt": _POSITIVE,
    "Squeeze": _RESHAPE,
    "Sub": T.AFFINE | T.SAME_SINCE_13,
    "Sum": T.NON_NEGATIVE_IF_ALL | T.SAME_SINCE_13,
    "Tanh": T.ELEMENTWISE | T.SAME_SINCE_13,
    "Tile": _MOVE,
    "TopK": T.DECISION,
    "Transpose": _MOVE | T.REARRANGES_AXES | T.SAME_SINCE_13,
    "Unique": T.DECISION,
    "Unsqueeze": _RESHAPE,
    "Where": T.MAY_READ_INFINITY,
})  # fmt: skip


def has_trait(op: str, trait: Trait) -> bool:
    """Tell whether an operator has the trait, or any one of several joined by `|`."""
    traits = OP_TRAITS.get(op)
    return traits is not None and bool(traits & trait)


@cache
def ops_with(trait: Trait) -> frozenset[str]:
    """Return every operator that has the trait, or any one of several joined by `|`."""
    return frozenset(op for op in OP_TRAITS if has_trait(op, trait))
