"""A named table filled by decorators: refuses duplicates, names what it knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from dfqonnx.errors import InternalError, UsageError

V = TypeVar("V")


class Registry(Generic[V]):
    """Names to values of one kind.

    >>> sources = Registry[int]("source")
    >>> _ = sources.add("leaves")(1)
    >>> sources["leaves"]
    1
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._known: dict[str, V] = {}

    def add(self, name: str) -> Callable[[V], V]:
        """Return a decorator that files its argument under `name`.

        Raises:
            InternalError: the name is taken.
        """

        def file(value: V) -> V:
            if name in self._known:
                raise InternalError(f"{self.kind} {name!r} is registered twice")
            self._known[name] = value
            return value

        return file

    def __getitem__(self, name: str) -> V:
        """Return the value filed under `name`.

        Raises:
            UsageError: unknown name; the message lists the known ones and the nearest.
        """
        if name not in self._known:
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(self._known))
            raise UsageError(f"unknown {self.kind} {name!r}{hint} Known: {known}.")
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether `name` is filed."""
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        """Iterate over the known names, sorted."""
        return iter(sorted(self._known))

    def __len__(self) -> int:
        """Return how many names are known."""
        return len(self._known)
