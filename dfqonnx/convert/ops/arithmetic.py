"""Element by element, with numpy's broadcasting."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import elementwise, operator


@operator("Div", 7, 13, 14)
def div(A: Tensor, B: Tensor) -> Tensor:
    """Return a / b; integers are divided towards zero."""
    if A.is_floating_point():
        return A / B
    return torch.div(A, B, rounding_mode="trunc")


@operator("Pow", 7, 12, 13, 15)
def pow_(X: Tensor, Y: Tensor) -> Tensor:
    """Return x to the power y, in the type of x."""
    return torch.pow(X, Y).to(X.dtype)


@operator("Mod", 10, 13, 28)
def mod(A: Tensor, B: Tensor, *, fmod: int = 0) -> Tensor:
    """Return the remainder with the sign of b, or with the sign of a when `fmod`."""
    return torch.fmod(A, B) if fmod else torch.remainder(A, B)


@operator("Sum", 6, 8, 13)
def sum_(*data_0: Tensor) -> Tensor:
    """Return the sum of all inputs."""
    return functools.reduce(torch.add, data_0)


@operator("Mean", 6, 8, 13)
def mean(*data_0: Tensor) -> Tensor:
    """Return the mean of all inputs."""
    return sum_(*data_0) / len(data_0)


@operator("Max", 6, 8, 12, 13)
def max_(*data_0: Tensor) -> Tensor:
    """Return the largest of all inputs."""
    return functools.reduce(torch.maximum, data_0)


@operator("Min", 6, 8, 12, 13)
def min_(*data_0: Tensor) -> Tensor:
    """Return the smallest of all inputs."""
    return functools.reduce(torch.minimum, data_0)


elementwise("Add", 7, 13, 14, function=torch.add, inputs=2)
elementwise("Sub", 7, 13, 14, function=torch.sub, inputs=2)
elementwise("Mul", 7, 13, 14, function=torch.mul, inputs=2)
elementwise("Abs", 6, 13, function=torch.abs)
elementwise("Neg", 6, 13, function=torch.neg)
elementwise("Sign", 9, 13, function=torch.sign)
elementwise("Exp", 6, 13, function=torch.exp)
elementwise("Log", 6, 13, function=torch.log)
elementwise("Sqrt", 6, 13, function=torch.sqrt)
elementwise("Reciprocal", 6, 13, function=torch.reciprocal)
elementwise("Erf", 9, 13, function=torch.erf)
elementwise("Floor", 6, 13, function=torch.floor)
elementwise("Ceil", 6, 13, function=torch.ceil)
elementwise("Round", 11, 22, function=torch.round)
elementwise("Sin", 7, 22, function=torch.sin)
elementwise("Cos", 7, 22, function=torch.cos)
elementwise("Tan", 7, 22, function=torch.tan)
elementwise("Asin", 7, 22, function=torch.asin)
elementwise("Acos", 7, 22, function=torch.acos)
elementwise("Atan", 7, 22, function=torch.atan)
elementwise("Sinh", 9, 22, function=torch.sinh)
elementwise("Cosh", 9, 22, function=torch.cosh)
elementwise("Asinh", 9, 22, function=torch.asinh)
elementwise("Acosh", 9, 22, function=torch.acosh)
elementwise("Atanh", 9, 22, function=torch.atanh)
