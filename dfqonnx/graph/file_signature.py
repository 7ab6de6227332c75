"""Whether a file may be an ONNX model, by its first bytes and the outline of its fields.

A protobuf message is a row of fields, each with a tag (number and kind) and, for texts and
messages, a length. Walking over the tags of a ModelProto reads a few bytes, whatever its size, and
needs no package; so that another kind of file is refused at once.

    tag = number << 3 | kind        kinds: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from dfqonnx.errors import UsageError

SIGNATURES = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"PK\x03\x04", "a zip archive (perhaps a PyTorch checkpoint: export it to ONNX first)"),
    (0, b"\x89HDF", "an HDF5 file (perhaps a Keras model: convert it to ONNX first)"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it to ONNX first"),
    (0, b"\x80\x02", "a Python pickle (perhaps a PyTorch checkpoint: export it to ONNX first)"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the real file first"),
)
IR_VERSION, GRAPH, OPSETS = 1, 7, 8  # numbers of the fields that every model has
MOST_FIELDS = 10_000  # that are walked over
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5


def check_signature(path: Path) -> None:
    """Refuse a file that can be no ONNX model.

    Raises:
        UsageError: it is of another kind, truncated or damaged; or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
            for offset, signature, what in SIGNATURES:
                if start.startswith(signature, offset):
                    raise UsageError(f"{path} is not an ONNX model; it looks like {what}")
            size = file.seek(0, 2)
            file.seek(0)
            fields = _walk(file, size)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if fields is None:
        raise UsageError(
            f"{path} ({size} bytes) is not a readable ONNX model: truncated, damaged or another"
            " format; export or download it again"
        )
    if not {IR_VERSION, GRAPH, OPSETS} <= fields:
        raise UsageError(
            f"{path} ({size} bytes) is not an ONNX model: it holds no graph, IR version or opset;"
            " it may be truncated or of another format"
        )


def _walk(file: BinaryIO, size: int) -> set[int] | None:
    """Return the numbers of a message's fields; None where it is no message."""
    found: set[int] = set()
    for _ in range(MOST_FIELDS):
        if file.tell() == size:
            return found
        tag = _read_varint(file)
        if tag is None or tag >> 3 == 0:
            return None
        kind, length = tag & 7, None
        if kind == _VARINT:
            length = None if _read_varint(file) is None else 0
        elif kind == _LENGTH:
            length = _read_varint(file)
        elif kind in {_EIGHT, _FOUR}:
            length = 8 if kind == _EIGHT else 4
        if length is None or file.tell() + length > size:
            return None
        file.seek(length, 1)
        found.add(tag >> 3)
    return {IR_VERSION, GRAPH, OPSETS}  # more fields than anybody looks at: the parser shall judge


def _read_varint(file: BinaryIO) -> int | None:
    """Return a number of seven bits a byte, the last byte below 128; None where there is none."""
    value = 0
    for place in range(10):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << (7 * place)
        if byte[0] < 128:
            return value
    return None
