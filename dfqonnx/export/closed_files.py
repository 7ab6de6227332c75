"""Files with more inputs than an image, in the form that they are measured in; see `interface`.

user's file                 -> closed copy, for sessions that feed images alone
exported file, closed form  -> the user's inputs again, and seen to compute the same
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.errors import InternalError, UsageError
from dfqonnx.graph.interface import Interface, close_inputs, open_inputs
from dfqonnx.runtime.session import Array, Session


@contextmanager
def closed_files(interface: Interface, *paths: Path) -> Iterator[tuple[Path, ...]]:
    """Yield the paths of closed copies, under the files' own names; of the files if they are so.

    Raises:
        UsageError: a file is too large to be copied.
    """
    if interface.is_plain:
        yield paths
        return
    with tempfile.TemporaryDirectory(prefix="dfqonnx-") as name:
        copies = []
        for index, path in enumerate(paths):
            copies.append(Path(name) / str(index) / path.name)
            copies[-1].parent.mkdir()
            proto = onnx.load(path)
            close_inputs(proto, interface)
            _save(proto, copies[-1], of=path)
        yield tuple(copies)


def open_file(file: Path, interface: Interface, x: Array) -> None:
    """Give a closed file the user's inputs; on an input `x` it has to compute what it did.

    Raises:
        InternalError: the opened file is not valid, or computes something else.
    """
    if interface.is_plain:
        return
    proto = onnx.load(file)
    open_inputs(proto, interface)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InternalError(f"the exported model is not valid ONNX: {error}") from error
    before = _run(file, interface, x)
    with atomic_file(file) as place:
        _save(proto, place, of=file)
    with closed_files(interface, file) as (closed,):
        if any(map(_differs, before, _run(closed, interface, x))):
            raise InternalError(f"{file}: it computes something else with the user's inputs")


def _differs(first: Array, second: Array) -> bool:
    return first.shape != second.shape or not np.array_equal(
        first, second, equal_nan=first.dtype.kind == "f"
    )


def _run(file: Path, interface: Interface, x: Array) -> list[Array]:
    return list(Session(file, optimization="off").run_batched({interface.image: x}).values())


def _save(proto: onnx.ModelProto, path: Path, *, of: Path) -> None:
    try:
        path.write_bytes(proto.SerializeToString(deterministic=True))
    except (ValueError, EncodeError):
        raise UsageError(
            f"{of}: over 2 GB, and with more inputs than an image: such a model is not quantized;"
            " export it with the image as its only input"
        ) from None
