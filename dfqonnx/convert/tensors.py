"""ONNX values as torch values: element types, initializers, attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

MOST_ELEMENTS = 2**31  # of a tensor whose size only numbers in the model ask for

DTYPES: Mapping[ir.DataType, torch.dtype] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.BOOL: torch.bool,
}


def dtype_of(code: int) -> torch.dtype:
    """Return the torch type for an ONNX element type; ValueError where torch has none."""
    kind = ir.DataType(code)
    if kind not in DTYPES:
        raise ValueError(f"element type {kind.name} has no counterpart in torch")
    return DTYPES[kind]


def to_tensor(value: ir.TensorProtocol) -> Tensor:
    """Copy an ONNX tensor to a torch tensor of the same type on the CPU."""
    dtype_of(value.dtype)
    return from_numpy(value.numpy())


def from_numpy(array: Any) -> Tensor:
    """Copy a numpy array, bfloat16 ones included."""
    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def attribute_value(attribute: ir.Attr) -> Any:
    """Return an attribute as int, float, str, a tuple of these, or a tensor.

    ValueError for a kind that operators do not take (sub-graphs, sparse tensors, types).
    """
    kind, value = attribute.type, attribute.value
    if kind in (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING):
        return value
    if kind in (ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS):
        return tuple(value)
    if kind is ir.AttributeType.TENSOR:
        return to_tensor(value)
    raise ValueError(f"attribute {attribute.name} is a {kind.name}, which is not supported")


def numbers(tensor: Tensor) -> tuple[Any, ...]:
    """Return the elements as Python numbers."""
    return tuple(tensor.flatten().tolist())
