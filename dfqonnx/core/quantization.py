"""Bit widths, number formats and the rounding of real numbers to codes.

WxAy: the weights of every Conv, Gemm and MatMul on an x-bit grid, and the input of every such node
on a y-bit grid. Residual sums, elementwise operands, the network's input and the input of the last
weighted node (the classifier) have 8 bits, or 16 where y is 16.

    codes = clip(round_half_even(x / scale) + zero_point, lo, hi)         (ONNX QuantizeLinear)
    x'    = (codes - zero_point) * scale                                  (ONNX DequantizeLinear)

This is the only file that rounds to codes. `quantize` and `dequantize` take numpy arrays and torch
tensors; `round_in_range` and `fake_quantize` take torch tensors and need one temporary, as training
wants it; `round_row` takes short numpy arrays, where every call counts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import InternalError, UsageError

MIN_BITS, MAX_BITS = 2, 8  # of weights, and of activations in containers of 8 bits
WIDE_BITS = 16  # the other width that activations may have
SMALLEST_SCALE = 1e-8
Storage = Literal["auto", "int8"]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BitWidths:
    """Widths of weights, 2..8, and activations, 2..8 or 16.

    >>> BitWidths.parse("w4a8")
    BitWidths(weights=4, activations=8)
    >>> BitWidths.parse("4").label
    'w4a4'
    """

    weights: int
    activations: int

    def __post_init__(self) -> None:
        for what, bits, most in (
            ("weight", self.weights, f"{MAX_BITS}"),
            ("activation", self.activations, f"{MAX_BITS}, or {WIDE_BITS}"),
        ):
            wide = what == "activation" and bits == WIDE_BITS
            if not (wide or MIN_BITS <= bits <= MAX_BITS):
                raise UsageError(
                    f"--bits: {what} width {bits} is not supported; choose {MIN_BITS} to {most},"
                    " for example --bits 4, --bits w4a8 (weights 4, activations 8) or --bits w8a16"
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the widths in a text, as this project or another tool writes them.

        | text | weights | activations |
        | --- | --- | --- |
        | `8`, `int8`, `w8a8` | 8 | 8 |
        | `4`, `int4`, `w4a4` | 4 | 4 |
        | `w4` | 4 | 8 |
        | `w4a8`, `a8w4`, `W4-A8`, `int4/int8`, `4x8` | 4 | 8 |
        | `w8a16`, `a16w8`, `int8/uint16` | 8 | 16 |

        Raises:
            UsageError: another form, or a width that does not exist.
        """
        plain = re.sub(r"(?<=\w)[\s_-]+(?=\w)", "", text.strip().lower())
        integer = r"(?:q?u?int|[iu])?"
        for form in (
            rf"{integer}(?P<both>\d+)(?:bits?)?",
            r"w(?P<w>\d+)(?:a(?P<a>\d+))?",
            r"a(?P<a>\d+)w(?P<w>\d+)",
            rf"{integer}(?P<w>\d+)[x/,:]{integer}(?P<a>\d+)",
        ):
            match = re.fullmatch(form, plain)
            if match is not None:
                widths = match.groupdict()
                weights = widths.get("both") or widths.get("w")
                activations = widths.get("both") or widths.get("a") or MAX_BITS
                if len(f"{weights}{activations}") <= 4:
                    return cls(int(weights or 0), int(activations))
        known = (
            "write 8, 4, w4a8 (weights 4, activations 8), int8, int4 or w8a16; weights have 2 to 8"
            " bits, activations 2 to 8, or 16"
        )
        raise UsageError(f"--bits: cannot read {text!r}; {known}")

    @property
    def label(self) -> str:
        """The short form, `w4a8`."""
        return f"w{self.weights}a{self.activations}"


@dataclass(frozen=True)
class IntegerRange:
    """The integers that a tensor may take."""

    bits: int  # nominal width; `hi - lo < 2**bits`
    lo: int  # smallest code
    hi: int  # largest code
    zero_point: int  # the code of real 0

    @property
    def dtype(self) -> np.dtype[np.int8 | np.uint8 | np.int16 | np.uint16]:
        """The container that holds them all."""
        return NumberFormat(signed=self.lo < 0, zero_points=True).dtype_for(self.bits)

    @property
    def signed(self) -> bool:
        """Whether negative reals are representable."""
        return self.zero_point > self.lo

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest code, counted from the zero point."""
        return self.lo - self.zero_point, self.hi - self.zero_point

    def below(self, clip_max: float | None, scale: float) -> Self:
        """Return the range without the codes above `clip_max`, which may be None or infinite.

        The largest code is then `rint(clip_max / scale) + zero_point`, at least one above zero.
        """
        if clip_max is None or math.isinf(clip_max):
            return self
        largest = np.rint(np.float32(clip_max) / np.float32(scale))
        top = max(1, int(min(largest, self.hi - self.zero_point)))
        return replace(self, hi=top + self.zero_point)

    def spanning(self, low: float, high: float) -> tuple[float, Self]:
        """Return the scale at which the codes span `low`..`high`, and the range with real 0 moved.

        `low` is 0 or below and `high` 0 or above, so that real 0 has a code.
        """
        scale = max((high - low) / (self.hi - self.lo), SMALLEST_SCALE)
        zero_point = int(min(max(np.rint(-low / scale) + self.lo, self.lo), self.hi))
        return scale, replace(self, zero_point=zero_point)


@dataclass(frozen=True)
class NumberFormat:
    """The containers in which a runtime keeps codes: of 8 bits up to that width, of 16 above."""

    signed: bool  # int8 and int16, else uint8 and uint16
    zero_points: bool  # whether real 0 may have another code than 0

    def __post_init__(self) -> None:
        if not (self.signed or self.zero_points):
            raise InternalError("uint8 codes without zero points hold no negative numbers")

    def dtype_for(
        self, bits: int = MAX_BITS
    ) -> np.dtype[np.int8 | np.uint8 | np.int16 | np.uint16]:
        """Return the container of codes of so many bits."""
        if bits > MAX_BITS:
            return np.dtype(np.int16 if self.signed else np.uint16)
        return np.dtype(np.int8 if self.signed else np.uint8)

    def limits_for(self, bits: int = MAX_BITS) -> tuple[int, int]:
        """Return the smallest and the largest code that the container holds."""
        info = np.iinfo(self.dtype_for(bits))
        return int(info.min), int(info.max)

    def grid(self, bits: int, *, negative: bool = True) -> IntegerRange:
        """Return the codes of a tensor, with as many levels as possible.

        Without zero points, a tensor without negative numbers still has code 0 for real 0, so that
        8 bits in int8 leave half the codes unused.
        """
        half, top = 2 ** (bits - 1), 2**bits - 1
        if not self.signed:
            return IntegerRange(bits, 0, top, half if negative else 0)
        if negative or self.zero_points or top > self.limits_for(bits)[1]:
            zero = -half if self.zero_points and not negative else 0
            return IntegerRange(bits, -half, half - 1, zero)
        return IntegerRange(bits, 0, top, 0)


UINT8 = NumberFormat(signed=False, zero_points=True)
INT8 = NumberFormat(signed=True, zero_points=False)


@dataclass(frozen=True)
class NodeRules:
    """Nodes that the user treats in another way, by name, pattern or operator, see `node_rules`.

    Attributes:
        keep_float: nodes to leave in float.
        bits_for: widths of Conv, Gemm and MatMul other than those of the rest, and 16 bits of any
            other node that reads codes.
        required: whether a rule that means no node is an error.
    """

    keep_float: tuple[str, ...] = ()
    bits_for: tuple[tuple[str, BitWidths], ...] = ()
    required: bool = True


@dataclass(frozen=True)
class QuantizationConfig:
    """What the user asks of the quantizer.

    Where activations have 16 bits, those of `residual_bits` have as many. `first_last_bits` is the
    width of the first and last layer's weights (8 is the second published convention); None leaves
    them at `bits.weights`. The `weight_storage` `auto` packs narrow weights where the target can;
    `int8` keeps every weight in an 8-bit container, which older runtimes load, too.
    """

    bits: BitWidths  # of weights and of Conv, Gemm and MatMul inputs
    first_last_bits: int | None = None
    residual_bits: int = 8  # of elementwise operands, network input and classifier input
    weight_storage: Storage = "auto"

    def __post_init__(self) -> None:
        if self.first_last_bits is not None and not MIN_BITS <= self.first_last_bits <= MAX_BITS:
            raise UsageError(
                f"--strict-ends {self.first_last_bits}: choose {MIN_BITS} to {MAX_BITS}"
            )

    @property
    def elementwise_bits(self) -> int:
        """The width of elementwise operands, network input and classifier input."""
        wide = self.bits.activations > MAX_BITS
        return self.bits.activations if wide else self.residual_bits


def count_steps(unit: float, scale: float, *, most: int) -> int:
    """Return how many whole steps of about `scale` make up `unit`: 1 to `most`."""
    return int(min(max(1.0, np.rint(unit / scale)), most))


class RealNumbers(Protocol):
    """What numpy arrays and torch tensors have in common."""

    def __truediv__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def round(self) -> Any:
        """Return the nearest whole numbers, halves to even."""


class RealTensor(RealNumbers, Protocol):
    """A torch tensor: this file loads no torch."""

    def round_(self) -> Any:
        """Round in place."""

    def mul_(self, other: Any, /) -> Any:
        """Multiply in place."""


Numbers = TypeVar("Numbers", bound=RealNumbers)
Reals = TypeVar("Reals", bound=RealTensor)


def whole_exponents(exponents: Numbers) -> Numbers:
    """Return the exponents of the powers of two nearest to scales, from their logarithms to 2."""
    whole: Numbers = exponents.round()
    return whole


def quantize(x: Numbers, scale: RealNumbers | float, grid: IntegerRange) -> Numbers:
    """Return the codes of `x` in the dtype of `x`; `scale` broadcasts against `x`."""
    codes: Numbers = ((x / scale).round() + grid.zero_point).clip(grid.lo, grid.hi)
    return codes


def dequantize(codes: Numbers, scale: RealNumbers | float, grid: IntegerRange) -> Numbers:
    """Return the reals that `codes` stand for."""
    reals: Numbers = (codes - grid.zero_point) * scale
    return reals


def round_in_range(x: Reals, scale: RealNumbers, limits: tuple[int, int]) -> Reals:
    """Return the codes of `x` counted from the zero point, within `limits`."""
    codes: Reals = (x / scale).round_().clamp_(*limits)
    return codes


def round_row(x: FloatArray, limits: tuple[int, int]) -> FloatArray:
    """Return the whole numbers nearest to a small array, within `limits`."""
    codes = np.rint(x)
    np.maximum(codes, limits[0], out=codes)
    return np.minimum(codes, limits[1], out=codes)


def fake_quantize(x: Reals, scale: RealNumbers, limits: tuple[int, int]) -> Reals:
    """Return the reals nearest to `x` whose codes, counted from the zero point, are in `limits`."""
    reals: Reals = round_in_range(x, scale, limits).mul_(scale)
    return reals
