"""Activations, each by the formula of its ONNX page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import Numbers, elementwise, operator

elementwise("Relu", 6, 13, 14, function=F.relu)  # max(0, x)
elementwise("Sigmoid", 6, 13, function=torch.sigmoid)  # 1 / (1 + exp(-x))
elementwise("HardSwish", 14, 22, function=F.hardswish)  # x max(0, min(1, x / 6 + 1/2))
elementwise("Tanh", 6, 13, function=torch.tanh)
elementwise("Softplus", 1, 22, function=F.softplus)  # log(1 + exp(x))
elementwise("Softsign", 1, 22, function=F.softsign)  # x / (1 + |x|)
elementwise("Mish", 18, 22, function=F.mish)  # x tanh(softplus(x))


@operator("LeakyRelu", 6, 16)
def leaky_relu(X: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Return x where x >= 0, else alpha x."""
    return F.leaky_relu(X, alpha)


@operator("PRelu", 7, 9, 16)
def prelu(X: Tensor, slope: Tensor) -> Tensor:
    """Return x where x >= 0, else slope x; the slope broadcasts."""
    return torch.where(X >= 0, X, X * slope)


@operator("ThresholdedRelu", 10, 22)
def thresholded_relu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where x > alpha, else 0."""
    return torch.where(torch.gt(X, alpha), X, torch.zeros_like(X))


@operator("Clip", 6)
def clip_6(
    input: Tensor, *, max: float = 3.4028234663852886e38, min: float = -3.4028234663852886e38
) -> Tensor:
    """Bound by attributes."""
    return torch.clamp(input, min, max)


@operator("Clip", 11, 12, 13)
def clip(input: Tensor, min: Numbers | None = None, max: Numbers | None = None) -> Tensor:
    """Bound by inputs; min above max gives max."""
    if min is None and max is None:
        return input
    return torch.clamp(input, min[0] if min else None, max[0] if max else None)


@operator("HardSigmoid", 6, 22)
def hard_sigmoid(X: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return max(0, min(1, alpha x + beta))."""
    return torch.clamp(X * alpha + beta, 0.0, 1.0)


@operator("Swish", 24)
def swish(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x sigmoid(alpha x)."""
    return F.silu(X) if alpha == 1.0 else X * torch.sigmoid(X * alpha)


@operator("Elu", 6, 22)
def elu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return x where x >= 0, else alpha (exp(x) - 1)."""
    return F.elu(X, alpha)


@operator("Celu", 12, 28)
def celu(X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Return max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    return F.celu(X, alpha)


@operator("Selu", 6, 22)
def selu(
    X: Tensor, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323
) -> Tensor:
    """Return gamma x where x > 0, else gamma alpha (exp(x) - 1)."""
    return F.elu(X, alpha) * gamma


@operator("Gelu", 20)
def gelu(X: Tensor, *, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """Return x Phi(x), or its tanh approximation."""
    return F.gelu(X, approximate=approximate)


@operator("Shrink", 9)
def shrink(input: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Return x - bias above lambd, x + bias below -lambd, else 0."""
    zero = torch.zeros_like(input)
    high = torch.where(input > lambd, input - bias, zero)
    return torch.where(input < -lambd, input + bias, high).to(input.dtype)


def _hardmax(input: Tensor, axis: int) -> Tensor:
    """Return 1 at the first maximum along an axis, else 0."""
    first = input.argmax(axis, keepdim=True)
    return torch.zeros_like(input).scatter(axis, first, 1.0)


def _file_softmax(name: str, function: Callable[[Tensor, int], Tensor]) -> None:
    """File the form that works along one axis, and the old one, over all axes from one on."""

    def along(input: Tensor, *, axis: int = -1) -> Tensor:
        return function(input, axis)

    def flat(input: Tensor, *, axis: int = 1) -> Tensor:
        return function(input.flatten(axis), -1).reshape(input.shape)

    along.__name__ = flat.__name__ = name.lower()
    operator(name, 13)(along)
    operator(name, 1, 11)(flat)


_file_softmax("Softmax", torch.softmax)
_file_softmax("LogSoftmax", torch.log_softmax)
_file_softmax("Hardmax", _hardmax)
