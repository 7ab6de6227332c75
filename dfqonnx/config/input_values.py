"""Values of inputs beside the image: as a person writes them, and as a file records them.

--input alpha=0.5        --input size=[320,320]        --input state=state.npy
dfqonnx.input.alpha      0.5                           base64:k05VTVBZAQB2AHsn...
"""

from __future__ import annotations

import base64
import io
import json
import math
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dfqonnx.errors import UsageError

INPUT_KEY = "dfqonnx.input."  # in front of the name, in a file's metadata
_PACKED = "base64:"
_SHOWN = 64  # numbers that are written as text
MAX_FILE_BYTES = 2**30
_DAMAGED = (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, OSError, EOFError)
_FORMS = "a number, true or false, a list such as [320,320], or the path of an .npy file"


def read_inputs(given: Sequence[str] | Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return values by name, from texts NAME=VALUE or from numbers, lists and arrays by name.

    Raises:
        UsageError: a text cannot be read, or a name is given twice.
    """
    if isinstance(given, Mapping):
        return {name: _read(name, value) for name, value in given.items()}
    found: dict[str, NDArray[Any]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"--input {text}: write NAME=VALUE; VALUE is {_FORMS}")
        if name in found:
            raise UsageError(f"--input {name}: given twice")
        found[name] = _read(name, value)
    return found


def format_input(value: NDArray[Any]) -> str:
    """Return a text that `read_inputs` reads as the same numbers."""
    if value.size <= _SHOWN:
        return json.dumps(value.tolist(), separators=(",", ":"))
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return _PACKED + base64.b64encode(file.getvalue()).decode()


def recorded_inputs(metadata: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Return the values that a quantized file was made with, by the input's name.

    Raises:
        UsageError: the file is damaged.
    """
    keys = [key for key in metadata if key.startswith(INPUT_KEY)]
    return {key.removeprefix(INPUT_KEY): _read(key, metadata[key]) for key in keys}


def _read(name: str, value: Any) -> NDArray[Any]:
    if isinstance(value, str):
        value = _read_text(name, value)
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" or not array.size:
        raise UsageError(f"--input {name}: {_shorten(value)} is not {_FORMS}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"--input {name}: its numbers have to be finite")
    return array


def _read_text(name: str, text: str) -> Any:
    if text.startswith(_PACKED):
        try:
            return _parse_npy(base64.b64decode(text.removeprefix(_PACKED), validate=True))
        except _DAMAGED:
            raise UsageError(f"--input {name}: its base64 text is damaged") from None
    if text.endswith(".npy"):
        try:
            return _parse_npy(_read_plain_file(Path(text)))
        except _DAMAGED as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"--input {name}: {text} cannot be read: {reason}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"--input {name}: cannot read {_shorten(text)}; give {_FORMS}") from None


def _read_plain_file(path: Path) -> bytes:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no plain file, but a pipe, a device or a folder")
    if found.st_size > MAX_FILE_BYTES:
        raise ValueError(f"{found.st_size:,} bytes are too many for the value of an input")
    return path.read_bytes()


def _parse_npy(data: bytes) -> NDArray[Any]:
    """Return the array of an npy file whose header agrees with its size."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    size = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=0) < 0 or size != len(data) - file.tell():
        raise ValueError(
            f"its header is of {dtype} of shape {shape}, and {len(data) - file.tell():,} bytes"
            " follow"
        )
    values = np.frombuffer(data, dtype, offset=file.tell()) if size else np.zeros(0, dtype)
    return np.array(values.reshape(shape, order="F" if fortran else "C"))


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
