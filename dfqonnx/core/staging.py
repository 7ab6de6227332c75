"""Hidden folders to write into, each held by a lock while its writer lives, and swept afterwards.

    FOLDER/.dfqonnx-partial-TOKEN/      one writer's, in it:
        .dfqonnx-partial.lock           locked by the kernel, with the writer's machine
        content/                        what is written, or the old result that it replaced

A lock of the kernel is gone when its process is gone, however that ended, and it is seen by every
container on the machine: numbers of processes, which mean something else in each, are not used.
Where a file system is shared by several machines, a lock may be known to one of them only; so what
another machine (or this one before it was started anew) left is swept only when its lock is free
and was not touched for an hour, which the writer does every minute. A folder without a lock was
left by version 0.1.0 or by a kill in its first moment, and is swept after a week.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

STAGING = ".dfqonnx-partial"  # what hidden names begin with
LOCK, CONTENT = f"{STAGING}.lock", "content"
TOUCH_SECONDS, SILENT_SECONDS, FORGOTTEN_SECONDS = 60.0, 3600.0, 7 * 86_400.0


@contextmanager
def staging_folder(home: Path) -> Iterator[Path]:
    """Yield a folder in a hidden one in `home`, locked while the context is open; then both go.

    What dead writers left in `home` is removed before.
    """
    sweep(home)
    place = Path(tempfile.mkdtemp(prefix=f"{STAGING}-", dir=home))
    try:
        with _held(place / LOCK):
            content = place / CONTENT
            content.mkdir()
            yield content
    finally:
        remove(place)


def sweep(home: Path) -> None:
    """Remove what writers that are gone left in `home`."""
    for left in home.glob(f"{STAGING}-*"):
        if _is_abandoned(left):
            remove(left)


def remove(path: Path) -> None:
    """Remove a file or a folder where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def is_ours(name: str) -> bool:
    """Return whether a name is one that is hidden here."""
    return name.startswith(STAGING)


def _is_abandoned(left: Path) -> bool:
    lock = left / LOCK
    try:
        if not lock.is_file():
            return time.time() - left.stat().st_mtime > FORGOTTEN_SECONDS
        if is_held(lock):
            return False
        silent = time.time() - lock.stat().st_mtime
        return lock.read_text(encoding="utf-8") == _host() or silent > SILENT_SECONDS
    except (OSError, ValueError):
        return False


def is_held(lock: Path) -> bool:
    """Return whether a living process on this machine holds the lock."""
    try:
        with FileLock(lock, blocking=False):
            return False
    except (Timeout, OSError):
        return True


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock and touch its file every minute; a file system without locks goes without."""
    over = threading.Event()

    def touch() -> None:
        while not over.wait(TOUCH_SECONDS):
            with suppress(OSError):
                os.utime(lock)

    with ExitStack() as stack:
        try:
            lock.write_text(_host(), encoding="utf-8")
            stack.enter_context(FileLock(lock, timeout=5))
        except (Timeout, OSError):
            remove(lock)
        threading.Thread(target=touch, daemon=True).start()
        try:
            yield
        finally:
            over.set()


def _host() -> str:
    """Return what names this machine since it was started, the same in all its containers."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return platform.node()
