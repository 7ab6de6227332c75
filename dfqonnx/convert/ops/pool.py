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
from dfqonnx.convert.ops.conv import CONV
from dfqonnx.convert.ops.window import AutoPad, Window, padded, resolve

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _is_simple(window: Window) -> bool:
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
    window = resolve(size, kernel_shape, auto_pad, strides, pads, dilations, ceil_mode)
    x = X if X.is_floating_point() else X.to(torch.float64)
    begin, ceil = window.begin, bool(ceil_mode)
    if not _is_simple(window):
        x = padded(x, begin, window.overhang(size), value=-math.inf)
        begin, ceil = (0,) * len(size), False
    steps = (window.kernel, window.strides, begin, window.dilations, ceil)
    if outputs == 1:
        return _MAX[len(size)](x, *steps).to(X.dtype)
    y, where = _MAX[len(size)](x, *steps, return_indices=True)
    shift = window.begin if begin != window.begin else (0,) * len(size)
    found = _flatten_indices(
        where, tuple(x.shape[2:]), size, shift=shift, column_major=storage_order
    )
    return y.to(X.dtype), found


def _flatten_indices(
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
    window = resolve(size, kernel_shape, auto_pad, strides, pads, dilations, ceil_mode)
    if _is_simple(window) and max(window.dilations) == 1:
        steps = (window.kernel, window.strides, window.begin)
        return _AVERAGE[len(size)](X, *steps, bool(ceil_mode), bool(count_include_pad))
    ones, begin, over = X.new_ones(1, 1, *size), window.begin, window.overhang(size)
    if count_include_pad:
        ones = padded(ones, begin, window.end, value=1.0)
        beyond = tuple(max(0, o - e) for o, e in zip(over, window.end, strict=True))
        ones = padded(ones, (0,) * len(size), beyond)
    else:
        ones = padded(ones, begin, over)
    return _sum_windows(padded(X, begin, over), window) / _sum_windows(ones, window)


def _sum_windows(x: Tensor, window: Window) -> Tensor:
    """Sum the windows of an already padded tensor."""
    kernel = x.new_ones(1, 1, *window.kernel)
    planes = x.reshape(-1, 1, *x.shape[2:])
    y = CONV[len(window.kernel)](planes, kernel, None, window.strides, 0, window.dilations)
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
    window = resolve(size, kernel_shape, auto_pad, strides, pads, dilations, ceil_mode)
    powers = padded(X.abs() ** p, window.begin, window.overhang(size))
    return _sum_windows(powers, window) ** (1.0 / p)


def _get_space_axes(X: Tensor) -> Ints:
    return tuple(range(2, X.dim()))


@operator("GlobalAveragePool", 1, 22)
def global_average_pool(X: Tensor) -> Tensor:
    """Return the mean over space, shape (N, C, 1, ...)."""
    return X.mean(_get_space_axes(X), keepdim=True)


@operator("GlobalMaxPool", 1, 22)
def global_max_pool(X: Tensor) -> Tensor:
    """Return the maximum over space, shape (N, C, 1, ...)."""
    return X.amax(_get_space_axes(X), keepdim=True)


@operator("GlobalLpPool", 2, 22)
def global_lp_pool(X: Tensor, *, p: int = 2) -> Tensor:
    """Return the p-norm over space, shape (N, C, 1, ...)."""
    norm: Tensor = torch.linalg.vector_norm(X, p, _get_space_axes(X), keepdim=True)
    return norm
