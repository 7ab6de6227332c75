"""Comparison, logic and bits, element by element with numpy's broadcasting."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import elementwise, operator

elementwise("Equal", 7, 11, 13, 19, function=torch.eq, inputs=2)
elementwise("Greater", 7, 9, 13, function=torch.gt, inputs=2)
elementwise("GreaterOrEqual", 12, 16, function=torch.ge, inputs=2)
elementwise("Less", 7, 9, 13, function=torch.lt, inputs=2)
elementwise("LessOrEqual", 12, 16, function=torch.le, inputs=2)
elementwise("And", 7, function=torch.logical_and, inputs=2)
elementwise("Or", 7, function=torch.logical_or, inputs=2)
elementwise("Xor", 7, function=torch.logical_xor, inputs=2)
elementwise("BitwiseAnd", 18, function=torch.bitwise_and, inputs=2)
elementwise("BitwiseOr", 18, function=torch.bitwise_or, inputs=2)
elementwise("BitwiseXor", 18, function=torch.bitwise_xor, inputs=2)
elementwise("Not", 1, function=torch.logical_not)
elementwise("BitwiseNot", 18, function=torch.bitwise_not)
elementwise("IsNaN", 9, 13, 20, function=torch.isnan)


@operator("BitShift", 11, 28)
def bit_shift(X: Tensor, Y: Tensor, *, direction: Literal["LEFT", "RIGHT"]) -> Tensor:
    """Return x shifted by y bits."""
    return X << Y if direction == "LEFT" else X >> Y


@operator("IsInf", 10, 20)
def is_inf(X: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Return where x is infinite, of the signs asked for."""
    found = torch.zeros_like(X, dtype=torch.bool)
    if detect_negative:
        found = found | torch.isneginf(X)
    if detect_positive:
        found = found | torch.isposinf(X)
    return found
