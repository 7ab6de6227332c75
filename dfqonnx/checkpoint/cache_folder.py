"""The folder that results are kept in, where it is and how large it grows.

    FOLDER/images/KEY.safetensors    images, which serve every run that asks for the same
    FOLDER/widths/KEY.safetensors    widths that a search chose
    FOLDER/runs/KEY/                 the work of one run, until it is complete
        run.json                     what the run is, and how far
        STAGE-IMAGES.safetensors     a stage's result, made with these images
    FOLDER/locks/                    held by the kernel while somebody writes to a key

It is the user's cache folder of the system, or `DFQONNX_CACHE`, and takes `DFQONNX_CACHE_LIMIT`
bytes (5 GB): what was not used for longest leaves first, but never the work of a run that lives.
Only its owner can read it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from dfqonnx.checkpoint.entry_file import SUFFIX
from dfqonnx.core.staging import STAGING, is_held, remove
from dfqonnx.errors import UsageError

FOLDER_VARIABLE, LIMIT_VARIABLE = "DFQONNX_CACHE", "DFQONNX_CACHE_LIMIT"
LIMIT = 5_000_000_000  # bytes
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SPARE = 256 * 2**20  # bytes of the disk that are left to the run itself
OWNER_ALONE = 0o700
IMAGES, WIDTHS, RUNS, LOCKS, FACTS = "images", "widths", "runs", "locks", "run.json"
OLD_LOCK_SECONDS = 7 * 86_400.0
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by dfqonnx; backups may leave it out.\n"


@dataclass(frozen=True)
class Kept:
    """Something in the folder: a file that serves several runs, or the folder of one."""

    path: Path
    bytes: int
    used: float  # seconds since the epoch, when it was last read or written

    @property
    def key(self) -> str:
        """The key that it is kept under."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def is_run(self) -> bool:
        """Whether it is the work of a run."""
        return self.path.parent.name == RUNS

    @property
    def kind(self) -> str:
        """What it is: `run`, `images` or `widths`."""
        return "run" if self.is_run else self.path.parent.name


@dataclass(frozen=True)
class CacheFolder:
    """A folder for kept results, and the bytes that it may take."""

    path: Path
    limit: int = LIMIT

    @classmethod
    def find(cls, environment: Mapping[str, str] | None = None) -> CacheFolder:
        """Return the folder that the environment names, else the system's own for the user.

        Raises:
            UsageError: the limit cannot be read.
        """
        environment = os.environ if environment is None else environment
        named = environment.get(FOLDER_VARIABLE, "")
        path = Path(named) if named else user_cache_path("dfqonnx", appauthor=False)
        return cls(path.expanduser().absolute(), read_bytes(environment.get(LIMIT_VARIABLE, "")))

    def images(self, key: str) -> Path:
        """Return where images are kept."""
        return self.path / IMAGES / f"{key}{SUFFIX}"

    def widths(self, key: str) -> Path:
        """Return where the outcome of a search for widths is kept."""
        return self.path / WIDTHS / f"{key}{SUFFIX}"

    def run(self, key: str) -> Path:
        """Return where the work of a run is kept."""
        return self.path / RUNS / key

    def lock(self, key: str) -> Path:
        """Return the file that is locked while somebody writes to a key."""
        return self.path / LOCKS / f"{key}.lock"

    def prepare(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            OSError: it cannot be made or written to, or everybody may write to it.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=OWNER_ALONE)
        if self.path.stat().st_mode & stat.S_IWOTH:
            raise OSError(errno.EPERM, "everybody may write to it")
        for name in (IMAGES, WIDTHS, RUNS, LOCKS):
            (self.path / name).mkdir(exist_ok=True, mode=OWNER_ALONE)
        with tempfile.TemporaryDirectory(prefix=f"{STAGING}-", dir=self.path / IMAGES):
            pass
        tag = self.path / "CACHEDIR.TAG"
        if not tag.exists():
            tag.write_text(TAG, encoding="utf-8")

    def kept(self) -> list[Kept]:
        """Return everything that is kept, what was used longest ago first."""
        found = []
        for path in (p for name in (IMAGES, WIDTHS, RUNS) for p in _entries(self.path / name)):
            with suppress(OSError):
                files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
                facts = [file.stat() for file in files]
                used = max((fact.st_mtime for fact in facts), default=path.stat().st_mtime)
                found.append(Kept(path, sum(fact.st_size for fact in facts), used))
        return sorted(found, key=lambda kept: kept.used)

    def is_at_work(self, kept: Kept) -> bool:
        """Return whether a living run holds it."""
        lock = self.lock(kept.key)
        return os.access(lock, os.W_OK) and is_held(lock)

    def make_room(self, size: int) -> bool:
        """Let what was used longest ago go until `size` more bytes fit; return whether they do."""
        if size > self.limit or shutil.disk_usage(self.path).free < size + SPARE:
            return False
        everything = self.kept()
        total = sum(kept.bytes for kept in everything)
        for kept in everything:
            if total + size <= self.limit:
                break
            if not self.is_at_work(kept):
                remove(kept.path)
                total -= kept.bytes
        self._sweep_locks()
        return total + size <= self.limit

    @contextmanager
    def held(self, key: str, *, seconds: float) -> Iterator[bool]:
        """Hold a key; yields whether that was possible within so many seconds.

        Raises:
            OSError: the place has no locks.
        """
        place = self.lock(key)
        lock = FileLock(place, timeout=seconds, mode=0o600)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            with suppress(OSError):
                os.utime(place)
            yield True
        finally:
            lock.release()

    def _sweep_locks(self) -> None:
        for lock in _entries(self.path / LOCKS):
            with suppress(OSError):
                if time.time() - lock.stat().st_mtime > OLD_LOCK_SECONDS and not is_held(lock):
                    remove(lock)


def read_bytes(text: str) -> int:
    """Return the bytes that a text such as `5GB` or `500 MB` says; the usual limit without one.

    Raises:
        UsageError: it cannot be read.
    """
    if not text.strip():
        return LIMIT
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise UsageError(f"{LIMIT_VARIABLE}={text}: cannot be read; write a size such as 5GB")
    return int(float(match[1]) * UNITS[match[2]])


def _entries(folder: Path) -> list[Path]:
    """Return what stands in a folder, without what is being written."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(STAGING)]
    except OSError:
        return []
