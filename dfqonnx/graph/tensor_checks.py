"""Whether a stored tensor holds what it claims, checked before anything allocates what it claims.

bytes of raw data = ceil(elements x bits / 8)          elements = product of the dimensions
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from pathlib import Path

from onnx import GraphProto, ModelProto, TensorProto, helper

from dfqonnx.errors import UsageError

_BITS = {
    8: (
        *("UINT8", "INT8", "BOOL", "FLOAT8E8M0"),
        *("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
    ),
    16: ("UINT16", "INT16", "FLOAT16", "BFLOAT16"),
    32: ("FLOAT", "INT32", "UINT32"),
    64: ("DOUBLE", "INT64", "UINT64", "COMPLEX64"),
    128: ("COMPLEX128",),
    4: ("UINT4", "INT4", "FLOAT4E2M1"),
    2: ("UINT2", "INT2"),
}
_KINDS = {
    TensorProto.DataType.Value(name): bits
    for bits, names in _BITS.items()
    for name in names
    if name in TensorProto.DataType.keys()  # noqa: SIM118  an enum, not a dict
}


def check_tensor(tensor: TensorProto, path: Path, *, stored: int | None = None) -> None:
    """Check type, dimensions and amount of data (`stored` bytes, where they lie elsewhere)."""
    where = f"{path}: tensor {tensor.name!r}"
    dims = list(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        return
    bits = _KINDS.get(tensor.data_type)
    if bits is None:
        raise UsageError(
            f"{where} has element type {tensor.data_type}, which ONNX does not know: the file is"
            " damaged, or from a newer ONNX (upgrade the onnx package)"
        )
    if any(size < 0 for size in dims):
        raise UsageError(f"{where} has the shape {dims}: the file is damaged")
    elements = math.prod(dims)
    if stored is None and tensor.HasField("raw_data"):
        stored = len(tensor.raw_data)
    if stored is not None:
        expected, actual, what = -(-elements * bits // 8), stored, "bytes"
    else:
        field = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
        words = math.ceil(elements * bits / 32) if bits < 8 else elements
        is_complex = tensor.data_type in {TensorProto.COMPLEX64, TensorProto.COMPLEX128}
        unpacked = bits < 8 and len(field) in {elements, -(-elements * bits // 8)}
        expected = len(field) if unpacked else words * (2 if is_complex else 1)
        actual, what = len(field), "numbers"
    if expected != actual:
        raise UsageError(
            f"{where} has {actual} {what} of data, its shape {dims} needs {expected}: the file"
            " is damaged"
        )


def strip_initializers(proto: ModelProto, names: Container[str]) -> ModelProto:
    """Return `proto` with the initializers `names` as graph inputs; `proto` itself if it has none.

    So a model of more than 2 GB, which no protobuf message holds, passes checker and converter.
    """
    if not any(tensor.name in names for tensor in proto.graph.initializer):
        return proto
    stripped = ModelProto()
    stripped.CopyFrom(proto)
    del stripped.graph.initializer[:]
    stripped.graph.initializer.extend(t for t in proto.graph.initializer if t.name not in names)
    list_as_inputs(stripped.graph, [t for t in proto.graph.initializer if t.name in names])
    return stripped


def list_as_inputs(graph: GraphProto, tensors: Iterable[TensorProto]) -> None:
    """Declare initializers as graph inputs, those that are not listed yet."""
    listed = {value.name for value in graph.input}
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in tensors
        if tensor.name not in listed
    )
