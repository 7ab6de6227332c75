"""Same elements, other shape: views, copies along axes, joining and cutting."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator
from dfqonnx.convert.tensors import MOST_ELEMENTS


@operator("Reshape", 5, 13, 14, 19, 21, 23, 24, 25)
def reshape(data: Tensor, shape: Ints, *, allowzero: int = 0) -> Tensor:
    """Reshape; 0 copies the input's size unless `allowzero`, -1 is what remains."""
    if not allowzero:
        shape = tuple(data.shape[axis] if n == 0 else n for axis, n in enumerate(shape))
    return data.reshape(shape)


@operator("Flatten", 1, 9, 11, 13, 21, 23, 24, 25)
def flatten(input: Tensor, *, axis: int = 1) -> Tensor:
    """Return a matrix: axes before `axis`, axes from `axis` on."""
    axis = axis + input.dim() if axis < 0 else axis
    return input.reshape(math.prod(input.shape[:axis]), math.prod(input.shape[axis:]))


@operator("Transpose", 1, 13, 21, 23, 24, 25)
def transpose(data: Tensor, *, perm: Ints | None = None) -> Tensor:
    """Permute axes; reverses them by default."""
    return data.permute(tuple(reversed(range(data.dim()))) if perm is None else perm)


@operator("Squeeze", 1, 11, 13, 21, 23, 24, 25)
def squeeze(data: Tensor, axes: Ints | None = None) -> Tensor:
    """Remove axes of size 1: the named ones, or all."""
    return data.squeeze() if axes is None else data.squeeze(axes)


@operator("Unsqueeze", 1, 11, 13, 21, 23, 24, 25)
def unsqueeze(data: Tensor, axes: Ints) -> Tensor:
    """Insert axes of size 1 at these positions of the result."""
    rank = data.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        data = data.unsqueeze(axis)
    return data


def _broadcast_shapes(a: Ints, b: Ints) -> Ints:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    return tuple(m if n == 1 else n for m, n in zip(a, b, strict=True))


@operator("Expand", 8, 13)
def expand(input: Tensor, shape: Ints) -> Tensor:
    """Broadcast both ways with `shape`."""
    return input.expand(_broadcast_shapes(tuple(input.shape), shape))


@operator("Tile", 6, 13)
def tile(input: Tensor, repeats: Ints) -> Tensor:
    """Repeat whole axes."""
    if input.numel() * math.prod(repeats) > MOST_ELEMENTS:
        raise ValueError(f"tiling shape {tuple(input.shape)} by {repeats} is too large")
    return input.repeat(repeats)


@operator("Concat", 4, 11, 13)
def concat(*inputs: Tensor, axis: int) -> Tensor:
    """Join along an axis."""
    return torch.cat(inputs, axis)


@operator("Split", 2, 11, 13, 18)
def split(
    input: Tensor,
    split: Ints | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Cut along an axis by sizes, or into equal parts of which the last may be smaller."""
    if split is None:
        count = num_outputs or outputs
        size = input.shape[axis]
        each = -(-size // count)
        split = tuple(max(0, min(each, size - each * i)) for i in range(count))
    parts = torch.split(input, list(split), axis)
    return parts[0] if outputs == 1 else parts[:outputs]


@operator("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(input: Tensor) -> Tensor:
    """Return the input."""
    return input


@operator("DepthToSpace", 1, 11, 13, 28)
def depth_to_space(
    input: Tensor,  # (N, C, H, W)
    *,
    blocksize: int,
    mode: Literal["DCR", "CRD"] = "DCR",
) -> Tensor:
    """Move channels into blocks of space; the block is the slow (DCR) or fast (CRD) part of C."""
    n, c, h, w = input.shape
    b, rest = blocksize, c // blocksize**2
    if mode == "DCR":
        blocks = input.reshape(n, b, b, rest, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = input.reshape(n, rest, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, rest, h * b, w * b)


@operator("SpaceToDepth", 1, 13, 28)
def space_to_depth(
    input: Tensor,  # (N, C, H, W)
    *,
    blocksize: int,
    mode: Literal["DCR", "CRD"] = "DCR",
) -> Tensor:
    """Move blocks of space into channels."""
    n, c, h, w = input.shape
    b = blocksize
    blocks = input.reshape(n, c, h // b, b, w // b, b)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.permute(order).reshape(n, c * b * b, h // b, w // b)


@operator("Shape", 1, 13, 15, 19, 21, 23, 24, 25)
def shape(data: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Return the sizes of a range of axes, as int64 on the CPU."""
    return torch.tensor(tuple(data.shape)[start:end], dtype=torch.int64)


@operator("Size", 1, 13, 19, 21, 23, 24, 25)
def size(data: Tensor) -> Tensor:
    """Return the number of elements, as int64 on the CPU."""
    return torch.tensor(data.numel(), dtype=torch.int64)
