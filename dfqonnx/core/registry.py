"""A table of named values that decorators fill; it refuses duplicates and lists its names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from dfqonnx.errors import InternalError, UsageError, did_you_mean

V = TypeVar("V")


class Registry(Generic[V]):
    """A mapping from names to values of one kind, such as image sources.

    >>> sources = Registry[int]("source")
    >>> _ = sources.add("leaves")(1)
    >>> sources["leaves"]
    1
    """

    def __init__(self, kind: str, elsewhere: Mapping[str, str] | None = None) -> None:
        """Make an empty table; `elsewhere` are names that others use, and what they mean here."""
        self.kind, self._elsewhere = kind, dict(elsewhere or {})
        self._known: dict[str, V] = {}

    def add(self, name: str) -> Callable[[V], V]:
        """Return a decorator that registers its argument under `name`, which must be free."""

        def register(value: V) -> V:
            if name in self._known:
                raise InternalError(f"{self.kind} {name!r} is registered twice")
            self._known[name] = value
            return value

        return register

    def __getitem__(self, name: str) -> V:
        """Return the value of `name`; for an unknown one a UsageError lists the known ones."""
        if name not in self._known:
            meant = self._elsewhere.get(name.lower(), "")
            hint = did_you_mean(name, self, preferred=meant)
            raise UsageError(f"unknown {self.kind} {name!r}{hint}")
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether `name` is registered."""
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in alphabetical order."""
        return iter(sorted(self._known))

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._known)
