"""Element by element, with numpy's broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import operator


@operator("Add", 7, 13, 14)
def add(A: Tensor, B: Tensor) -> Tensor:
    """Return a + b."""
    return A + B


@operator("Sub", 7, 13, 14)
def sub(A: Tensor, B: Tensor) -> Tensor:
    """Return a - b."""
    return A - B


@operator("Mul", 7, 13, 14)
def mul(A: Tensor, B: Tensor) -> Tensor:
    """Return a b."""
    return A * B


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


def _unary(function: Callable[[Tensor], Tensor], name: str) -> Callable[[Tensor], Tensor]:
    def unary(input: Tensor) -> Tensor:
        return function(input)

    unary.__name__ = unary.__qualname__ = name.lower()
    return unary


for _name, _since, _function in (
    ("Abs", (6, 13), torch.abs),
    ("Neg", (6, 13), torch.neg),
    ("Sign", (9, 13), torch.sign),
    ("Exp", (6, 13), torch.exp),
    ("Log", (6, 13), torch.log),
    ("Sqrt", (6, 13), torch.sqrt),
    ("Reciprocal", (6, 13), torch.reciprocal),
    ("Erf", (9, 13), torch.erf),
    ("Floor", (6, 13), torch.floor),
    ("Ceil", (6, 13), torch.ceil),
    ("Round", (11, 22), torch.round),
    ("Sin", (7, 22), torch.sin),
    ("Cos", (7, 22), torch.cos),
    ("Tan", (7, 22), torch.tan),
    ("Asin", (7, 22), torch.asin),
    ("Acos", (7, 22), torch.acos),
    ("Atan", (7, 22), torch.atan),
    ("Sinh", (9, 22), torch.sinh),
    ("Cosh", (9, 22), torch.cosh),
    ("Asinh", (9, 22), torch.asinh),
    ("Acosh", (9, 22), torch.acosh),
    ("Atanh", (9, 22), torch.atanh),
):
    operator(_name, *_since)(_unary(_function, _name))
