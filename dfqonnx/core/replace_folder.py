"""Put a finished folder in the place of an old one: at any moment the old is there, or the new.

Where the system can, the two folders are exchanged in one step (`renameat2` of Linux), after what
somebody else put into the old one was linked into the new one. Elsewhere (the folder is a mounted
volume, or the current one, or another system's), the new files are moved in one by one:

    1. the staging folder inside gets the name `.dfqonnx-partial.commit`: everything is there
    2. the old report goes, so that the folder does not pass for complete
    3. files that only the old run had go, the new ones come, each by a rename, the report last

Who is killed between 1 and 3 leaves a folder from which `finish` completes the same steps; it runs
before the next use of the folder.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dfqonnx.core.staging import CONTENT, LOCK, STAGING, is_held, is_ours, remove

MARKER = "report.json"
COMMIT = f"{STAGING}.commit"
STALE = f"{STAGING}.stale"  # in it: files that only the old run had, one a line
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def can_exchange(out: Path) -> bool:
    """Return whether `out`, a folder that holds a result, can be exchanged as a whole."""
    return (
        sys.platform == "linux"
        and hasattr(ctypes.CDLL(None), "renameat2")
        and (out / MARKER).is_file()
        and not out.is_symlink()
        and not os.path.ismount(out)
        and os.access(out.parent, os.W_OK | os.X_OK)
        and not _is_current(out)
    )


def exchange(staging: Path, out: Path) -> bool:
    """Exchange `staging` with `out`; what others put into `out` is in both.

    Returns:
        False, and nothing is changed, where the file system cannot do it.
    """
    ours = read_names(out)
    try:
        shutil.copymode(out, staging)
        for entry in _list_others(out, ours):
            _link(entry, staging / entry.relative_to(out))
    except OSError:
        return False
    if not _rename_exchange(staging, out):
        return False
    for entry in _list_others(staging, ours):  # what came while the two were exchanged
        place = out / entry.relative_to(staging)
        if not place.exists() and not place.is_symlink():
            with suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                entry.rename(place)
    return True


def move_in(staging: Path, out: Path) -> None:
    """Move everything from `staging`, of a `staging_folder` in `out`, to `out` itself."""
    written = {str(p.relative_to(staging)) for p in staging.rglob("*") if p.is_file()}
    stale = [name for name in read_names(out) if name not in written]
    (staging.parent / STALE).write_text("\n".join(stale), encoding="utf-8")
    flush_tree(staging.parent)
    staging.parent.rename(out / COMMIT)
    _complete(out)


def finish(out: Path) -> None:
    """Complete what a `move_in` began that is no more; does nothing where there is none."""
    commit = out / COMMIT
    if (commit / STALE).is_file() and not is_held(commit / LOCK):
        _complete(out)


def _complete(out: Path) -> None:
    commit = out / COMMIT
    content = commit / CONTENT
    if (content / MARKER).is_file():
        (out / MARKER).unlink(missing_ok=True)
    root = out.resolve()
    for name in (commit / STALE).read_text(encoding="utf-8").splitlines():
        stale = out / name
        if stale.is_file() and stale.resolve().is_relative_to(root):
            stale.unlink()
    for entry in sorted(content.iterdir(), key=lambda entry: entry.name == MARKER):
        if entry.is_dir():
            shutil.rmtree(out / entry.name, ignore_errors=True)
        os.replace(entry, out / entry.name)
    remove(commit)


def read_report(out: Path) -> dict[str, object]:
    """Return the content of a folder's report; empty where there is none that can be read."""
    try:
        content = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def read_names(out: Path) -> set[str]:
    """Return the names of the files that a folder's report lists."""
    names = read_report(out).get("files", ())
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def flush_tree(folder: Path) -> None:
    """Bring every file below a folder to disk."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


def flush(path: Path) -> None:
    """Bring a file's bytes, or the renames within a folder, to disk."""
    if path.is_symlink():
        return
    if not path.is_dir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        return
    with suppress(OSError):  # not every file system can do it for a folder
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _list_others(folder: Path, ours: Iterable[str]) -> list[Path]:
    """Return the files, links and empty folders below a folder that no run wrote."""
    known = {folder / name for name in (*ours, MARKER)}
    return [
        path
        for path in folder.rglob("*")
        if (path.is_symlink() or not path.is_dir() or not any(path.iterdir()))
        and path not in known
        and not any(is_ours(part) for part in path.relative_to(folder).parts)
    ]


def _link(entry: Path, place: Path) -> None:
    """Give a file of somebody else a second name; one of the new result with its name wins."""
    if place.exists() or place.is_symlink():
        return
    if entry.is_dir() and not entry.is_symlink():
        place.mkdir(parents=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    os.link(entry, place, follow_symlinks=False)


def _is_current(out: Path) -> bool:
    """Return whether the current folder is `out` or lies below it: it would be lost."""
    try:
        return Path.cwd().is_relative_to(out.resolve())
    except OSError:
        return False


def _rename_exchange(one: Path, other: Path) -> bool:
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    result: int = rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)
    return result == 0
