"""One kept result as a file: named arrays and facts, with a checksum.

    NAME.safetensors    the arrays; in its metadata `key` (what the result depends on, hashed),
                        `facts` (JSON) and `sha256`

The checksum covers the key, the facts, and every array's name, type, shape and bytes. The format
holds numbers alone: reading a file never runs anything that stands in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dfqonnx.core.atomic_write import atomic_file
from dfqonnx.core.stage_keeper import DamagedEntry, Entry

SUFFIX = ".safetensors"
OWN_ALONE = 0o600  # nobody else reads a file


def write_entry(path: Path, key: str, entry: Entry) -> None:
    """Write an entry, complete or not at all.

    Raises:
        EnvironmentProblem: the disk is full or fails, or the place is not writable.
    """
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in entry.arrays.items()}
    facts = json.dumps(dict(entry.facts))
    metadata = {"key": key, "facts": facts, "sha256": _checksum(key, facts, arrays)}
    with atomic_file(path) as place:
        try:
            save_file(arrays, place, metadata=metadata)
        except SafetensorError as error:  # an error of the disk, in words
            number = _number_of(error)
            raise OSError(number, os.strerror(number)) from None
        place.chmod(OWN_ALONE)


def read_entry(path: Path, key: str) -> Entry:
    """Return the entry in a file that `write_entry` wrote under `key`.

    Raises:
        FileNotFoundError: there is none.
        DamagedEntry: it is truncated, damaged, or another's.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_file():
        raise DamagedEntry("it is no plain file")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(metadata.get("facts", ""))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise DamagedEntry(f"it cannot be read ({error})") from None
    if metadata.get("key") != key or not isinstance(facts, dict):
        raise DamagedEntry("it belongs to something else")
    if metadata.get("sha256") != _checksum(key, metadata["facts"], arrays):
        raise DamagedEntry("its checksum does not fit")
    return Entry(arrays, facts)


def _checksum(key: str, facts: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    found = hashlib.sha256(json.dumps([key, facts]).encode())
    for name, array in sorted(arrays.items()):
        found.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _number_of(error: SafetensorError) -> int:
    """Return the number of the system's error that safetensors tells in words; else 5, of I/O."""
    words = str(error).rsplit("os error ", 1)
    digits = words[-1].split(")")[0] if len(words) == 2 else ""
    return int(digits) if digits.isdigit() else 5
