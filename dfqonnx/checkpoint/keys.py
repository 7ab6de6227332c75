"""Keys of kept results: a hash of everything that they depend on.

Values are written in one way only, whatever their order in memory, and hashed. A value of a kind
that is not known here is refused: a key that left something out would give away wrong results.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfqonnx.errors import InternalError


def digest(**values: Any) -> str:
    """Return a hash of named values: numbers, texts, arrays, and dataclasses or mappings of them.

    >>> digest(bits=4, seed=0) == digest(seed=0, bits=4)
    True
    """
    text = json.dumps(_plain(values), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_files(paths: Iterable[str | Path]) -> list[str]:
    """Return a hash of the bytes of each file."""
    found = []
    for path in paths:
        with Path(path).open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found


@functools.cache
def digest_package() -> str:
    """Return a hash of the code that computes: a version may be at work that is not yet one."""
    home = Path(__file__).parents[1]
    files = sorted(path.relative_to(home).as_posix() for path in home.rglob("*.py"))
    return digest(files=files, content=digest_files(home / name for name in files))


def _plain(value: Any) -> Any:
    """Return a value as JSON can write it, its kind included where two kinds look alike."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        content = hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()
        return {"array": [array.dtype.str, list(array.shape), content]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {type(value).__name__: _plain(named)}
    if isinstance(value, Mapping):
        return {"items": sorted(([_plain(k), _plain(v)] for k, v in value.items()), key=json.dumps)}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    raise InternalError(f"a {type(value).__name__} has no place in a key")
