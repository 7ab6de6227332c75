"""Sampling at given points, and cropping or padding around the center."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator
from dfqonnx.convert.ops.conv import TRANSPOSE
from dfqonnx.convert.ops.window import padded

Padding = Literal["zeros", "border", "reflection"]
OldMode = Literal["bilinear", "nearest", "bicubic"]
_OLD_MODES: Mapping[str, OldMode] = {
    "linear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
}


@operator("GridSample", 20, 22)
def grid_sample(
    X: Tensor,  # (N, C, H, W) or (N, C, D, H, W)
    grid: Tensor,  # (N, H', W', 2) or (N, D', H', W', 3), in -1 .. 1
    *,
    align_corners: int = 0,
    mode: Literal["linear", "nearest", "cubic"] = "linear",
    padding_mode: Padding = "zeros",
) -> Tensor:
    """Interpolate at the points of a grid."""
    return grid_sample_16(
        X, grid, align_corners=align_corners, mode=_OLD_MODES[mode], padding_mode=padding_mode
    )


@operator("GridSample", 16)
def grid_sample_16(
    X: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: OldMode = "bilinear",
    padding_mode: Padding = "zeros",
) -> Tensor:
    """Interpolate at the points of a grid."""
    return F.grid_sample(
        X, grid, mode=mode, padding_mode=padding_mode, align_corners=bool(align_corners)
    )


@operator("AffineGrid", 20)
def affine_grid(theta: Tensor, size: Ints, *, align_corners: int = 0) -> Tensor:
    """Return the grid of an affine map."""
    return F.affine_grid(theta, list(size), align_corners=bool(align_corners))


@operator("CenterCropPad", 18)
def center_crop_pad(input_data: Tensor, shape: Ints, *, axes: Ints | None = None) -> Tensor:
    """Crop or zero-pad axes around their center; the odd cell is taken from or put at the end."""
    rank = input_data.dim()
    chosen = tuple(range(rank)) if axes is None else tuple(a % rank for a in axes)
    begin, end = [0] * rank, [0] * rank
    for axis, size in zip(chosen, shape, strict=True):
        room = size - input_data.shape[axis]
        begin[axis] = room // 2 if room >= 0 else -(-room // 2)
        end[axis] = room - begin[axis]
    return padded(input_data, tuple(begin), tuple(end))


@operator("Col2Im", 18)
def col2im(
    input: Tensor,  # (N, C * block, L)
    image_shape: Ints,
    block_shape: Ints,
    *,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Add columns back into the image that they were cut from.

    The columns are the gradient that a convolution with one-hot kernels would send back, so this is
    a transposed convolution of each column entry to its own place.
    """
    rank = len(image_shape)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    pads = pads or (0,) * (2 * rank)
    steps = [
        (n + pads[i] + pads[i + rank] - (k - 1) * d - 1) // s + 1
        for i, (n, k, s, d) in enumerate(
            zip(image_shape, block_shape, strides, dilations, strict=True)
        )
    ]
    block = math.prod(block_shape)
    columns = input.reshape(-1, block, *steps)  # (N C, block, ...)
    kernel = torch.eye(block, dtype=input.dtype, device=input.device)
    kernel = kernel.view(block, 1, *block_shape)
    image = TRANSPOSE[rank](columns, kernel, None, strides, 0, 0, 1, dilations)
    begin = tuple(-p for p in pads[:rank])
    end = tuple(n - m - b for n, m, b in zip(image_shape, image.shape[2:], begin, strict=True))
    image = padded(image, begin, end)
    return image.reshape(input.shape[0], -1, *image_shape)
