"""Making values and changing their type."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, Numbers, operator
from dfqonnx.convert.tensors import MOST_ELEMENTS, dtype_of


@operator("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25)
def constant(
    *,
    value: Tensor | None = None,
    value_int: int | None = None,
    value_ints: Ints | None = None,
    value_float: float | None = None,
    value_floats: tuple[float, ...] | None = None,
) -> Tensor:
    """Return a stored tensor, number or list of numbers."""
    if value is not None:
        return value
    whole = value_int if value_int is not None else value_ints
    if whole is not None:
        return torch.tensor(whole, dtype=torch.int64)
    real = value_float if value_float is not None else value_floats
    if real is None:
        raise ValueError("Constant has no value")
    return torch.tensor(real, dtype=torch.float32)


@operator("ConstantOfShape", 9, 20, 21, 23, 24, 25)
def constant_of_shape(input: Ints, *, value: Tensor | None = None) -> Tensor:
    """Return a tensor of one repeated value, float 0 by default."""
    if math.prod(input) > MOST_ELEMENTS:
        raise ValueError(f"a constant of shape {input} is too large")
    if value is None:
        return torch.zeros(input)
    return torch.full(input, value.item(), dtype=value.dtype)


@operator("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast(input: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Convert to an element type; the other attributes concern 8-bit floats only."""
    del saturate, round_mode
    return input.to(dtype_of(to))


@operator("CastLike", 15, 19, 21, 23, 24, 25)
def cast_like(
    input: Tensor, target_type: Tensor, *, saturate: int = 1, round_mode: str = "up"
) -> Tensor:
    """Convert to the element type of another tensor; attributes concern 8-bit floats only."""
    del saturate, round_mode
    return input.to(target_type.dtype)


@operator("BitCast", 26)
def bit_cast(input: Tensor, *, to: int) -> Tensor:
    """Read the same bits as another element type."""
    return input.view(dtype_of(to))


@operator("Range", 11, 27)
def range_(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """Return start, start + delta, ... before limit; half-precision sums are float32 anyway."""
    del stash_type
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(0, math.ceil((last - first) / step))
    if count > MOST_ELEMENTS:
        raise ValueError(f"a range of {count} elements is too large")
    counts = torch.arange(count, device=start.device)
    return (counts * delta + start).to(start.dtype)


@operator("EyeLike", 9, 22)
def eye_like(input: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """Return ones on the k-th diagonal of a matrix shaped like the input."""
    rows = torch.arange(input.shape[0], device=input.device)
    columns = torch.arange(input.shape[1], device=input.device)
    kind = input.dtype if dtype is None else dtype_of(dtype)
    return (columns[None, :] - rows[:, None] == k).to(kind)


@operator("Dropout", 12, 13, 22)
def dropout(
    data: Tensor,
    ratio: Numbers | None = None,
    training_mode: Numbers | None = None,
    *,
    seed: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the data: inference drops nothing."""
    del seed
    if training_mode and training_mode[0] and (ratio is None or ratio[0]):
        raise ValueError("Dropout is in training mode; export the model in eval mode")
    return data if outputs == 1 else (data, torch.ones_like(data, dtype=torch.bool))


@operator("Dropout", 7, 10)
def dropout_7(
    data: Tensor, *, ratio: float = 0.5, outputs: int = 1
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the data: inference drops nothing."""
    del ratio
    return dropout(data, outputs=outputs)
