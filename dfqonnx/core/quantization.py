"""Bits and grids.

WxAy: the weights of every Conv, Gemm and MatMul on an x-bit grid, and the input of every such node
on a y-bit grid. The residual stream, elementwise operands, the network's input and the input of the
last weighted node (the classifier) are 8 bits.

A grid maps integers to reals as ONNX does: `x = (codes - zero_point) * scale`, `lo <= codes <= hi`.

Quantize and dequantize: the only spelling of rounding.

    codes = clip(round_half_even(x / scale) + zero_point, lo, hi)         (ONNX QuantizeLinear)
    x'    = (codes - zero_point) * scale                                  (ONNX DequantizeLinear)

Only `.round()` and `.clip()` are used, so numpy arrays and torch tensors go through the same lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from dfqonnx.errors import UsageError

MIN_BITS, MAX_BITS = 2, 8
Storage = Literal["auto", "int8"]


@dataclass(frozen=True)
class BitWidths:
    """Widths of weights and activations, each 2..8.

    >>> Bits.parse("w4a8")
    Bits(weights=4, activations=8)
    >>> Bits.parse("4").label
    'w4a4'
    """

    weights: int
    activations: int

    def __post_init__(self) -> None:
        for what, bits in (("weight", self.weights), ("activation", self.activations)):
            if not MIN_BITS <= bits <= MAX_BITS:
                raise UsageError(
                    f"--bits: {what} width {bits} is not supported; "
                    f"choose {MIN_BITS} to {MAX_BITS}, for example --bits 4 or --bits w4a8"
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `8`, `4`, `w4a8`.

        Raises:
            UsageError: not one of these forms, or a width outside 2..8.
        """
        match = re.fullmatch(r"(\d+)|w(\d+)a(\d+)", text.strip().lower())
        if match is None:
            raise UsageError(
                f"--bits: cannot read {text!r}; write one width (4) or both (w4a8), each 2 to 8"
            )
        both, weights, activations = match.groups()
        return cls(int(both or weights), int(both or activations))

    @property
    def label(self) -> str:
        """The short form, `w4a8`."""
        return f"w{self.weights}a{self.activations}"


@dataclass(frozen=True)
class IntegerRange:
    """The integers that a tensor may take.

    Attributes:
        bits: nominal width; `hi - lo < 2**bits`.
        lo: smallest code.
        hi: largest code.
        zero_point: the code of real 0.
    """

    bits: int
    lo: int
    hi: int
    zero_point: int

    @classmethod
    def weight(cls, bits: int) -> Self:
        """Signed, zero point 0: -2^(b-1) .. 2^(b-1)-1."""
        return cls(bits, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0)

    @classmethod
    def activation(cls, bits: int, *, signed: bool) -> Self:
        """Codes 0 .. 2^b-1 in a uint8 container; zero point 2^(b-1) when negative values occur."""
        return cls(bits, 0, 2**bits - 1, 2 ** (bits - 1) if signed else 0)

    @property
    def signed(self) -> bool:
        """Whether negative reals are representable."""
        return self.zero_point > self.lo


@dataclass(frozen=True)
class QuantizationConfig:
    """What the user asks of the quantizer.

    Attributes:
        bits: widths of weights and of Conv, Gemm and MatMul inputs.
        first_last_bits: width of the first and last layer's weights (8 is the second published convention);
            None leaves them at `bits.weights`.
        residual_bits: width of elementwise operands, network input and classifier input.
        weight_storage: `auto` packs weights of 4 bits and fewer as INT4; `int8` keeps an INT8 container,
            which ONNX Runtime before 1.23 also loads.
    """

    bits: BitWidths
    first_last_bits: int | None = None
    residual_bits: int = 8
    weight_storage: Storage = "auto"

    def __post_init__(self) -> None:
        if self.first_last_bits is not None and not MIN_BITS <= self.first_last_bits <= MAX_BITS:
            raise UsageError(
                f"--strict-ends {self.first_last_bits}: choose {MIN_BITS} to {MAX_BITS}"
            )


def quantize(x: Any, scale: Any, grid: IntegerRange) -> Any:
    """Return the codes of `x` in the dtype of `x`; `scale` broadcasts against `x`."""
    return ((x / scale).round() + grid.zero_point).clip(grid.lo, grid.hi)


def dequantize(codes: Any, scale: Any, grid: IntegerRange) -> Any:
    """Return the reals that `codes` stand for."""
    return (codes - grid.zero_point) * scale
