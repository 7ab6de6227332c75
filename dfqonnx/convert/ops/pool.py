"""Pooling over windows and over all of space.

torch pools with symmetric padding of at most half a kernel. Everything else (asymmetric padding,
dilated averages) is padded here first. Averages divide by the number of input cells in the window,
or, with count_include_pad, of input and padding cells, but never of cells that only ceil_mode adds.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator
from dfqonnx.convert.ops.window import AutoPad, Window, padded, resolve

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def _simple(window: Window) -> bool:
    """Whether torch can do the padding itself."""
    return window.begin == window.end and all(
        2 * p <= k for p, k in zip(window.begin, window.kernel, strict=True)
    )


@operator("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(
    X: Tensor,  # (N, C, ...)
    *,
    kernel_shape: Ints,
    auto_pad: AutoPad = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    storage_order: int = 0,
    strides: Ints | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the maximum of each window; with a second output also its flat index in X."""
    size = tuple(X.shape[2:])
    window = resolve(
        size,
        kernel_shape,
        auto_pad=auto_pad,
        strides=strides,
        pads=pads,
        dilations=dilations,
        ceil_mode=ceil_mode,
    )
    x = X if X.is_floating_point() else X.to(torch.float64)
    begin, ceil = window.begin, bool(ceil_mode)
    if not _simple(window):
        lowest = -math.inf
        x = padded(x, begin, window.overhang(size), value=lowest)
        begin, ceil = (0,) * len(size), False
    function = _MAX[len(size)]
    if outputs == 1:
        y = function(x, window.kernel, window.strides, begin, window.dilations, ceil)
        return y if x is X else y.to(X.dtype)
    y, where = function(
        x, window.kernel, window.strides, begin, window.dilations, ceil, return_indices=True
    )
    shift = window.begin if begin != window.begin else (0,) * len(size)
    found = _flat_index(where, tuple(x.shape[2:]), size, shift=shift, column_major=storage_order)
    return y.to(X.dtype), found


def _flat_index(
    where: Tensor,  # (N, C, ...) index within a padded plane
    padded_size: Ints,
    size: Ints,
    *,
    shift: Ints,
    column_major: int,
) -> Tensor:
    """Turn indices within padded planes into indices within the whole unpadded tensor."""
    coordinates: list[Tensor] = []
    rest = where
    for n, s in zip(reversed(padded_size), reversed(shift), strict=True):
        coordinates.insert(0, rest % n - s)
        rest = rest // n
    order = range(len(size))
    flat = torch.zeros_like(where)
    for axis in reversed(order) if column_major else order:
        flat = flat * size[axis] + coordinates[axis]
    planes = torch.arange(where.shape[0] * where.shape[1], device=where.device)
    offset = planes.view(*where.shape[:2], *(1,) * len(size)) * math.prod(size)
    return flat + offset


@operator("AveragePool", 1, 7, 10, 11, 19, 22)
def average_pool(
    X: Tensor,  # (N, C, ...)
    *,
    kernel_shape: Ints,
    auto_pad: AutoPad = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Return the mean of each window."""
    size = tuple(X.shape[2:])
    window = resolve(
        size,
        kernel_shape,
        auto_pad=auto_pad,
        strides=strides,
        pads=pads,
        dilations=dilations,
        ceil_mode=ceil_mode,
    )
    if _simple(window) and max(window.dilations) == 1:
        function = _AVERAGE[len(size)]
        return function(
            X, window.kernel, window.strides, window.begin, bool(ceil_mode), bool(count_include_pad)
        )
    ones = X.new_ones(1, 1, *size)
    if count_include_pad:
        ones = padded(ones, window.begin, window.end, value=1.0)
        beyond = tuple(
            max(0, o - e) for o, e in zip(window.overhang(size), window.end, strict=True)
        )
        count = _window_sum(padded(ones, (0,) * len(size), beyond), window)
    else:
        count = _window_sum(padded(ones, window.begin, window.overhang(size)), window)
    return _window_sum(padded(X, window.begin, window.overhang(size)), window) / count


def _window_sum(x: Tensor, window: Window) -> Tensor:
    """Sum the windows of an already padded tensor."""
    rank = len(window.kernel)
    kernel = x.new_ones(1, 1, *window.kernel)
    planes = x.reshape(-1, 1, *x.shape[2:])
    y = _CONV[rank](planes, kernel, None, window.strides, 0, window.dilations)
    y = y.reshape(*x.shape[:2], *y.shape[2:])
    for axis, n in enumerate(window.output):
        y = y.narrow(axis + 2, 0, n)
    return y


@operator("LpPool", 2, 11, 18, 22)
def lp_pool(
    X: Tensor,  # (N, C, ...)
    *,
    kernel_shape: Ints,
    auto_pad: AutoPad = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    p: int = 2,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Return the p-norm of each window."""
    size = tuple(X.shape[2:])
    window = resolve(
        size,
        kernel_shape,
        auto_pad=auto_pad,
        strides=strides,
        pads=pads,
        dilations=dilations,
        ceil_mode=ceil_mode,
    )
    powers = padded(X.abs() ** p, window.begin, window.overhang(size))
    return _window_sum(powers, window) ** (1.0 / p)


def _space(X: Tensor) -> Ints:
    return tuple(range(2, X.dim()))


@operator("GlobalAveragePool", 1, 22)
def global_average_pool(X: Tensor) -> Tensor:
    """Return the mean over space, shape (N, C, 1, ...)."""
    return X.mean(_space(X), keepdim=True)


@operator("GlobalMaxPool", 1, 22)
def global_max_pool(X: Tensor) -> Tensor:
    """Return the maximum over space, shape (N, C, 1, ...)."""
    return X.amax(_space(X), keepdim=True)


@operator("GlobalLpPool", 2, 22)
def global_lp_pool(X: Tensor, *, p: int = 2) -> Tensor:
    """Return the p-norm over space, shape (N, C, 1, ...)."""
    norm: Tensor = torch.linalg.vector_norm(X, p, _space(X), keepdim=True)
    return norm
