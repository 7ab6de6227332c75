"""Writing a model so that its final name holds a complete file or nothing.

The bytes go to a temporary file in the same folder, are flushed to disk, and the file is renamed:
a rename within a folder is atomic. A model whose bytes pass protobuf's 2 GB keeps its tensors in
`<name>.data` beside it, which is renamed first, so that the model never names data that are not
there. On any failure, interruption included, the temporary files are removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import onnx
import onnx_ir as ir

from dfqonnx.errors import DfqError, EnvironmentProblem, UsageError
from dfqonnx.export.export import check

_PROTOBUF_LIMIT = 2**31 - 2**20
_EXTERNAL_FROM = 1024  # bytes of a tensor that moves into the data file
_ALIGNMENT = 64

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def write(model: ir.Model, path: Path, *, limit: int = _PROTOBUF_LIMIT) -> int:
    """Write `model` to `path` and return the bytes written, external data included.

    Args:
        model: what `export` returned.
        path: final name; an existing file is replaced.
        limit: size from which tensors move into `<name>.data`.

    Raises:
        UsageError: the folder does not exist or cannot be written to.
        EnvironmentProblem: the disk is full or fails.
        InternalError: the model does not pass ONNX's checker.
    """
    weight = sum(tensor.nbytes for tensor in _tensors(model))
    if weight < limit:
        data = check(model).SerializeToString(deterministic=True)
        _replace({path: [data]})
        return len(data)
    blob = path.with_name(path.name + ".data")
    proto, parts = _split(model, blob.name)
    data = proto.SerializeToString(deterministic=True)
    _replace({blob: parts, path: [data]})
    return len(data) + sum(map(len, parts))


def _replace(files: dict[Path, list[bytes]]) -> None:
    """Write every file under a temporary name, then rename them in order."""
    drafts = {path: path.with_name(f".{path.name}.{uuid4().hex[:8]}.part") for path in files}
    path = next(iter(files))
    try:
        for path, parts in files.items():
            with drafts[path].open("xb") as handle:
                _fill(handle, parts)
        for path, draft in drafts.items():
            draft.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise explain(error, path, sum(len(p) for parts in files.values() for p in parts)) from None
    finally:
        for draft in drafts.values():
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _fill(handle: BinaryIO, parts: list[bytes]) -> None:
    for part in parts:
        handle.write(part)
    handle.flush()
    os.fsync(handle.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def explain(error: OSError, path: Path, size: int) -> DfqError:
    """Return the error of ours that says what to do about `error` at `path`."""
    folder = path.parent
    if error.errno in _FULL:
        return EnvironmentProblem(
            f"{path}: the disk is full ({size / 1e6:.1f} MB needed); free space or choose another"
            " folder with --out; nothing was left behind"
        )
    if error.errno in _DENIED:
        return UsageError(
            f"{path}: not allowed to write into {folder}; change its permissions or choose another"
            " folder with --out"
        )
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return UsageError(f"{path}: the folder {folder} does not exist; create it first")
    if error.errno == errno.EISDIR:
        return UsageError(f"{path} is a folder; give the name of a file")
    return EnvironmentProblem(f"{path}: cannot be written: {error.strerror or error}")


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    values = model.graph.initializers.values()
    return (value.const_value for value in values if value.const_value is not None)


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
