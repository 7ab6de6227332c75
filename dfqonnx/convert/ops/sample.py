"""Sampling at given points, and cropping or padding around the center."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator

Padding = Literal["zeros", "border", "reflection"]


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
    kind = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(
        X, grid, mode=kind, padding_mode=padding_mode, align_corners=bool(align_corners)
    )


@operator("GridSample", 16)
def grid_sample_16(
    X: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: Literal["bilinear", "nearest", "bicubic"] = "bilinear",
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
    amounts = [0] * (2 * rank)
    for axis, size in zip(chosen, shape, strict=True):
        room = size - input_data.shape[axis]
        before = room // 2 if room >= 0 else -(-room // 2)
        amounts[2 * (rank - 1 - axis)] = before
        amounts[2 * (rank - 1 - axis) + 1] = room - before
    return F.pad(input_data, amounts)


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
    block = 1
    for k in block_shape:
        block *= k
    columns = input.reshape(-1, block, *steps)  # (N C, block, ...)
    kernel = torch.eye(block, dtype=input.dtype, device=input.device)
    kernel = kernel.view(block, 1, *block_shape)
    function = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]
    image = function(columns, kernel, None, strides, 0, 0, 1, dilations)
    amounts = []
    for i in reversed(range(rank)):
        end = image_shape[i] + pads[i] - image.shape[2 + i]
        amounts += [-pads[i], end]
    image = F.pad(image, amounts)
    return image.reshape(input.shape[0], -1, *image_shape)
