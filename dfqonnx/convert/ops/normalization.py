"""Normalizations, in inference form.

BatchNormalization   y = scale (x - mean) / sqrt(var + epsilon) + B, statistics given
Instance / Layer / Group / RMS   the same with statistics of x itself, over space, over the
                     trailing axes, over a group of channels; RMS without the mean
LRN                  y = x / (bias + alpha / size * sum over `size` neighboring channels x^2)^beta
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator

_TINY = 1e-9  # MeanVarianceNormalization's own constant


@operator("BatchNormalization", 7, 9, 14, 15)
def batch_normalization(
    X: Tensor,  # (N, C, ...)
    scale: Tensor,
    B: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: Literal[0] = 0,
) -> Tensor:
    """Normalize with the given statistics; without `spatial` they are per element."""
    del momentum, training_mode
    if spatial:
        return F.batch_norm(X, mean, var, scale, B, False, 0.0, epsilon)
    return (X - mean) * torch.rsqrt(var + epsilon) * scale + B


@operator("InstanceNormalization", 6, 22)
def instance_normalization(
    input: Tensor,  # (N, C, ...)
    scale: Tensor,  # (C)
    B: Tensor,  # (C)
    *,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalize every channel of every image over space."""
    return F.group_norm(input, input.shape[1], scale, B, epsilon)


@operator("LayerNormalization", 17)
def layer_normalization(
    X: Tensor,
    Scale: Tensor,
    B: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Normalize over the axes from `axis` on; also the mean and 1 / standard deviation if asked."""
    del stash_type
    shape = X.shape[axis:]
    if outputs == 1 and Scale.shape == shape and (B is None or B.shape == shape):
        return F.layer_norm(X, shape, Scale, B, epsilon)
    dims = tuple(range(axis % X.dim(), X.dim()))
    mean = X.mean(dims, keepdim=True)
    inverse = torch.rsqrt((X - mean).square().mean(dims, keepdim=True) + epsilon)
    y = (X - mean) * inverse * Scale
    y = y if B is None else y + B
    return y if outputs == 1 else (y, mean, inverse)[:outputs]


@operator("RMSNormalization", 23)
def rms_normalization(
    X: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Divide by the root mean square over the axes from `axis` on."""
    del stash_type
    dims = tuple(range(axis % X.dim(), X.dim()))
    return X * torch.rsqrt(X.square().mean(dims, keepdim=True) + epsilon) * scale


@operator("GroupNormalization", 21)
def group_normalization(
    X: Tensor,  # (N, C, ...)
    scale: Tensor,  # (C)
    bias: Tensor,  # (C)
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Normalize every group of channels of every image."""
    del stash_type
    return F.group_norm(X, num_groups, scale, bias, epsilon)


@operator("GroupNormalization", 18)
def group_normalization_18(
    X: Tensor,  # (N, C, ...)
    scale: Tensor,  # (num_groups)
    bias: Tensor,  # (num_groups)
    *,
    num_groups: int,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalize every group of channels; one scale and bias per group."""
    scale, bias = (v.repeat_interleave(X.shape[1] // num_groups) for v in (scale, bias))
    return F.group_norm(X, num_groups, scale, bias, epsilon)


@operator("LRN", 1, 13)
def lrn(
    X: Tensor,  # (N, C, ...)
    *,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 1.0,
) -> Tensor:
    """Normalize over neighboring channels."""
    flat = X.reshape(X.shape[0], 1, X.shape[1], -1).square()
    flat = F.pad(flat, (0, 0, (size - 1) // 2, size - 1 - (size - 1) // 2))
    total = F.avg_pool2d(flat, (size, 1), stride=1).reshape(X.shape)
    return X / (bias + alpha * total) ** beta


@operator("LpNormalization", 1, 22)
def lp_normalization(input: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the p-norm along one axis; where that is 0, leave 0."""
    norm = torch.linalg.vector_norm(input, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(input), input / norm)


@operator("MeanVarianceNormalization", 9, 13)
def mean_variance_normalization(X: Tensor, *, axes: Ints = (0, 2, 3)) -> Tensor:
    """Return (x - mean) / (standard deviation + 1e-9) over the axes."""
    mean = X.mean(axes, keepdim=True)
    variance = X.square().mean(axes, keepdim=True) - mean.square()
    return (X - mean) / (variance.sqrt() + _TINY)
