"""Comparison, logic and bits, element by element with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator


def _binary(name: str, since: Ints, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    def binary(A: Tensor, B: Tensor) -> Tensor:
        return function(A, B)

    binary.__name__ = binary.__qualname__ = name.lower()
    operator(name, *since)(binary)


_binary("Equal", (7, 11, 13, 19), torch.eq)
_binary("Greater", (7, 9, 13), torch.gt)
_binary("GreaterOrEqual", (12, 16), torch.ge)
_binary("Less", (7, 9, 13), torch.lt)
_binary("LessOrEqual", (12, 16), torch.le)
_binary("And", (7,), torch.logical_and)
_binary("Or", (7,), torch.logical_or)
_binary("Xor", (7,), torch.logical_xor)
_binary("BitwiseAnd", (18,), torch.bitwise_and)
_binary("BitwiseOr", (18,), torch.bitwise_or)
_binary("BitwiseXor", (18,), torch.bitwise_xor)


@operator("Not", 1)
def not_(X: Tensor) -> Tensor:
    """Return the negation."""
    return torch.logical_not(X)


@operator("BitwiseNot", 18)
def bitwise_not(X: Tensor) -> Tensor:
    """Return all bits flipped."""
    return torch.bitwise_not(X)


@operator("BitShift", 11, 28)
def bit_shift(X: Tensor, Y: Tensor, *, direction: Literal["LEFT", "RIGHT"]) -> Tensor:
    """Return x shifted by y bits."""
    return X << Y if direction == "LEFT" else X >> Y


@operator("IsNaN", 9, 13, 20)
def is_nan(X: Tensor) -> Tensor:
    """Return where x is not a number."""
    return torch.isnan(X)


@operator("IsInf", 10, 20)
def is_inf(X: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Return where x is infinite, of the signs asked for."""
    found = torch.zeros_like(X, dtype=torch.bool)
    if detect_negative:
        found = found | torch.isneginf(X)
    if detect_positive:
        found = found | torch.isposinf(X)
    return found
