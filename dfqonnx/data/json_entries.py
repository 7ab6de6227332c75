"""Parts of a stranger's JSON, each with its place in the file for messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import printable

_SHOWN = 60  # characters of a value in a message
_MOST_INTEGER = 2**53  # beyond it, JSON's numbers are not exact


@dataclass(frozen=True)
class JsonEntry:
    """A value, and where it stands: option, file and keys."""

    value: Any
    where: str

    def has(self, key: str) -> bool:
        """Return whether this is a mapping with `key`, which is not null."""
        return isinstance(self.value, Mapping) and self.value.get(key) is not None

    def require(self, key: str) -> JsonEntry:
        """Return the value of `key`.

        Raises:
            UsageError: there is none.
        """
        if not self.has(key):
            raise UsageError(f"{self.where} has no {key!r}")
        return JsonEntry(self.value[key], f"{self.where}: {key}")

    def entries(self, key: str) -> list[JsonEntry]:
        """Return the entries of the list under `key`, empty where there is none.

        Raises:
            UsageError: it is no list.
        """
        if not self.has(key):
            return []
        found = self.value[key]
        if not isinstance(found, list):
            raise self.error(f"{key} is no list")
        return [JsonEntry(each, f"{self.where}: {key}[{k}]") for k, each in enumerate(found)]

    def text(self) -> str:
        """Return a text.

        Raises:
            UsageError: it is none.
        """
        if not isinstance(self.value, str):
            raise self.error("expected a text")
        return self.value

    def integer(self, *, below: int = _MOST_INTEGER) -> int:
        """Return a whole number from 0 to `below`, which is not included.

        Raises:
            UsageError: it is none.
        """
        is_number = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        if not is_number or not 0 <= self.value < below or self.value != int(self.value):
            most = "" if below == _MOST_INTEGER else f", {below - 1:,} at most"
            raise self.error(f"expected a whole number of 0 or more{most}")
        return int(self.value)

    def numbers(self, count: int) -> NDArray[np.float64]:
        """Return `count` finite numbers.

        Raises:
            UsageError: there are others, or more or fewer.
        """
        try:
            found = np.array(self.value, np.float64)
        except (TypeError, ValueError, OverflowError):
            found = np.zeros(0)
        if found.shape != (count,) or not np.isfinite(found).all():
            raise self.error(f"expected {count} numbers")
        return found

    def error(self, expected: str) -> UsageError:
        """Return an error that shows the value."""
        return UsageError(f"{self.where}: {expected}, found {printable(repr(self.value)[:_SHOWN])}")
