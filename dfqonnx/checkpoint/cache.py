"""The cache as runs use it: a run with a damaged, full or read-only one works as without.

Every problem is told in one line, once, and costs no more than what would have been kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dfqonnx.checkpoint.cache_folder import CacheFolder
from dfqonnx.checkpoint.entry_file import read_entry, write_entry
from dfqonnx.core.stage_keeper import DamagedEntry, Entry
from dfqonnx.core.staging import remove
from dfqonnx.errors import DfqError

Tell = Callable[[str], None]
Value = TypeVar("Value")
WAIT_SECONDS = 3600.0  # for another run that makes the same


@dataclass(frozen=True)
class CacheUse:
    """What a run may do with the cache: use it at all, and read what is in it already."""

    enabled: bool = True
    fresh: bool = False  # whether nothing is read that was there before the run began


class Cache:
    """Reads and writes entries of a `CacheFolder`; `tell` is given every problem in a line.

    Raises:
        UsageError: the environment's limit of the cache cannot be read.
    """

    def __init__(self, use: CacheUse, tell: Tell) -> None:
        self.folder = CacheFolder.find() if use.enabled else None
        self._tell, self.is_fresh = tell, use.fresh
        self._mine: set[Path] = set()  # what this run wrote
        self.writable = False
        if self.folder is None:
            return
        try:
            self.folder.prepare()
            self.writable = True
        except OSError as error:
            reason = error.strerror or str(error)
            self._tell(
                f"The cache {self.folder.path} cannot be written ({reason}): nothing is kept."
            )

    def has(self, path: Path) -> bool:
        """Return whether an entry seems to be there for this run; `find` has the last word."""
        return self.folder is not None and self._may_read(path) and path.is_file()

    def find(self, path: Path, key: str, build: Callable[[Entry], Value]) -> Value | None:
        """Return what `build` makes of an entry; None where there is none that is whole.

        One that is damaged is told and removed.
        """
        if self.folder is None or not self._may_read(path):
            return None
        try:
            found = build(read_entry(path, key))
        except FileNotFoundError:
            return None
        except (DamagedEntry, KeyError, TypeError, ValueError) as error:
            self._tell(f"{path}: what was kept is damaged ({error}); it is made anew.")
            remove(path)
            return None
        with suppress(OSError):
            os.utime(path)
        return found

    def keep(self, path: Path, key: str, entry: Entry) -> bool:
        """Write an entry; return whether it is kept."""
        if self.folder is None or not self.writable:
            return False
        try:
            if not self.folder.make_room(entry.bytes):
                self._stop(f"has no room for {entry.bytes / 1e6:,.1f} MB (see `dfqonnx runs`)")
                return False
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_entry(path, key, entry)
        except (OSError, DfqError) as error:
            cause = error if isinstance(error, OSError) else error.__context__
            self._stop(f"cannot be written ({getattr(cause, 'strerror', None) or error})")
            return False
        self._mine.add(path)
        return True

    @contextmanager
    def making(self, path: Path, key: str, *, waits: bool) -> Iterator[None]:
        """Let one run at a time make images: who comes second `waits`, and is told so."""
        if self.folder is None or not self.writable or not waits or path.is_file():
            yield
            return
        with self.alone(key, seconds=0.0) as first:
            if first:
                yield
                return
        self._tell("Another run makes the same images; waiting for them (--no-cache does not).")
        with self.alone(key, seconds=WAIT_SECONDS):
            yield

    @contextmanager
    def alone(self, key: str, *, seconds: float) -> Iterator[bool]:
        """Hold a key while the context is open; yields False where another process does."""
        if self.folder is None or not self.writable:
            yield True
            return
        held = self.folder.held(key, seconds=seconds)
        try:
            got = held.__enter__()
        except (OSError, NotImplementedError):  # a file system without locks
            yield True
            return
        try:
            yield got
        finally:
            held.__exit__(None, None, None)

    def _may_read(self, path: Path) -> bool:
        return not self.is_fresh or path in self._mine

    def _stop(self, reason: str) -> None:
        """Keep nothing from now on, and say why."""
        assert self.folder is not None
        self.writable = False
        self._tell(f"The cache {self.folder.path} {reason}: the run goes on and keeps no more.")
