"""Writing a model so that its final name holds a complete file or nothing.

A model whose bytes pass protobuf's 2 GB keeps its tensors in `<name>.data` beside it. That file is
renamed first, so that the model never names data that are not there.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from dfqonnx.core.atomic_write import atomic_files
from dfqonnx.export.export import check

_PROTOBUF_LIMIT = 2**31 - 2**20
_EXTERNAL_FROM = 1024  # bytes of a tensor that moves into the data file
_ALIGNMENT = 64


def write(model: ir.Model, path: Path, *, limit: int = _PROTOBUF_LIMIT) -> int:
    """Write `model` to `path` and return the bytes written, external data included.

    An existing file is replaced; from `limit` bytes on, tensors move into `<name>.data`.

    Raises:
        UsageError: the path is a folder.
        EnvironmentProblem: the disk is full or fails, or the folder is not writable.
        InternalError: the model does not pass ONNX's checker.
    """
    tensors = (value.const_value for value in model.graph.initializers.values())
    if sum(tensor.nbytes for tensor in tensors if tensor is not None) < limit:
        files = {path: [check(model).SerializeToString(deterministic=True)]}
    else:
        blob = path.with_name(path.name + ".data")
        proto, parts = _split(model, blob.name)
        files = {blob: parts, path: [proto.SerializeToString(deterministic=True)]}
    with atomic_files(*files) as places:
        for place, parts in zip(places, files.values(), strict=True):
            with place.open("xb") as handle:
                handle.writelines(parts)
    return sum(len(part) for parts in files.values() for part in parts)


def _split(model: ir.Model, location: str) -> tuple[onnx.ModelProto, list[bytes]]:
    """Return the model without its large tensors, and those tensors' bytes in order."""
    parts: list[bytes] = []
    offset = 0
    bare = model.clone()
    for value in bare.graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes < _EXTERNAL_FROM:
            continue
        raw = tensor.tobytes()
        value.const_value = ir.ExternalTensor(
            location,
            offset,
            len(raw),
            tensor.dtype,
            shape=ir.Shape(tensor.numpy().shape),
            name=value.name or "",
        )
        padding = bytes(-len(raw) % _ALIGNMENT)
        parts += [raw, padding]
        offset += len(raw) + len(padding)
    return ir.to_proto(bare), parts
