"""Operator families; importing this package files them all."""

from dfqonnx.convert.ops import (
    activation,
    arithmetic,
    constant,
    conv,
    index,
    linear,
    normalization,
    pad,
    pool,
    reduce,
    shape,
)

__all__ = [
    "activation",
    "arithmetic",
    "constant",
    "conv",
    "index",
    "linear",
    "normalization",
    "pad",
    "pool",
    "reduce",
    "shape",
]
