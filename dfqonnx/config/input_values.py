"""Values of inputs beside the image: as a person writes them, and as a file records them.

--input alpha=0.5        --input size=[320,320]        --input state=state.npy
dfqonnx.input.alpha      0.5                           base64:k05VTVBZAQB2AHsn...
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import UsageError

INPUT_KEY = "dfqonnx.input."  # in front of the name, in a file's metadata
_PACKED = "base64:"
_SHOWN = 64  # numbers that are written as text
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
            data = base64.b64decode(text.removeprefix(_PACKED), validate=True)
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (binascii.Error, ValueError, OSError, EOFError):
            raise UsageError(f"--input {name}: its base64 text is damaged") from None
    if text.endswith(".npy"):
        try:
            return np.load(Path(text), allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UsageError(f"--input {name}: {text} cannot be read: {error}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"--input {name}: cannot read {_shorten(text)}; give {_FORMS}") from None


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
