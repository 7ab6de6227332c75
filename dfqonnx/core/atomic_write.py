"""Files and folders that are complete or absent: written under a hidden name, then renamed.

A rename within a folder is atomic. `atomic_files` writes beside the final names, flushes every file
to disk and renames in the order given, so that a file which names another comes last. On any
failure, interruption included, the hidden files are removed and what was there before stays.

`atomic_folder` writes into a staging folder:

- where there is no folder of that name yet, the staging folder is a hidden sibling and is renamed;
- in a folder that dfqonnx wrote before, or an empty one (a mounted volume, say), the staging folder
  lies inside: the old `report.json` goes first, each file is replaced by a rename, and the new
  `report.json` comes last, so that a folder without it is not complete;
- a folder with other people's files is refused by `check_out` before anything slow.

A process that is killed leaves at most what is hidden; the next `atomic_folder` there removes it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from dfqonnx.errors import EnvironmentProblem, UsageError

STAGING = ".dfqonnx-partial"  # what hidden names begin with
MARKER = "report.json"


def check_writable(folder: Path, *, out: Path) -> None:
    """Refuse `out` where `folder`, in which it will be written, could not be made or written to.

    Raises:
        UsageError: the folder lies below a file.
        EnvironmentProblem: it, or the nearest folder above it, is not writable.
    """
    folder = folder.absolute()
    home = next(path for path in (folder, *folder.parents) if path.exists())
    if not home.is_dir():
        raise UsageError(f"--out {out}: {home} is a file, not a folder")
    try:
        Path(tempfile.mkdtemp(prefix=STAGING, dir=home)).rmdir()
    except OSError as error:
        raise EnvironmentProblem(
            f"--out {out}: {home} is not writable ({error.strerror}); choose another --out"
        ) from None


def check_file_out(out: Path) -> None:
    """Refuse a file that could not be written at the end.

    Raises:
        UsageError: it is a folder, or lies below a file.
        EnvironmentProblem: the nearest folder above it is not writable.
    """
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; give the name of a file")
    check_writable(out.absolute().parent, out=out)


@contextmanager
def atomic_files(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Yield a hidden name for every path; on a clean exit what was written there stands at `paths`.

    Missing folders are made. A file is replaced, and a folder replaces an empty folder.

    Raises:
        UsageError: a folder stands where a file is to be.
        EnvironmentProblem: the disk is full or fails, or the place is not writable.
    """
    places = tuple(path.with_name(f"{STAGING}-{os.getpid()}-{path.name}") for path in paths)
    path = paths[0]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield places
        for place in places:
            _flush(place)
        for path, place in zip(paths, places, strict=True):
            if place.is_dir() and path.is_dir():
                path.rmdir()
            place.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise _explain(error, path) from None
    finally:
        for place in places:
            _remove(place)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a hidden name for one file or folder, see `atomic_files`."""
    with atomic_files(path) as (place,):
        yield place


def check_out(out: Path) -> None:
    """Refuse an output folder that could not be written at the end.

    Raises:
        UsageError: it is a file, lies below one, or holds files that dfqonnx did not write.
        EnvironmentProblem: it, or the nearest folder above it, is not writable.
    """
    if out.is_dir():
        _refuse_foreign(out)
    elif out.exists() or out.is_symlink():
        raise UsageError(f"--out {out}: is a file; give the name of a folder")
    check_writable(out, out=out)


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into; on a clean exit its content stands under `out`.

    `out` must have passed `check_out`.
    """
    inside = out.is_dir()
    home = out if inside else out.parent
    home.mkdir(parents=True, exist_ok=True)
    _sweep(home)
    staging = Path(tempfile.mkdtemp(prefix=f"{STAGING}-{os.getpid()}-", dir=home))
    staging.chmod(0o755)  # mkdtemp keeps others out; the result is an ordinary folder
    try:
        yield staging
        if inside:
            _replace(staging, out)
        else:
            staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _refuse_foreign(out: Path) -> None:
    names = [path.name for path in out.iterdir() if not path.name.startswith(STAGING)]
    if names and not _report(out).get("schema", "").startswith("dfqonnx.report/"):
        raise UsageError(
            f"--out {out}: holds files that dfqonnx did not write ({sorted(names)[0]}, ...); "
            "choose an empty or new folder"
        )


def _report(out: Path) -> dict[str, str]:
    try:
        content = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _replace(staging: Path, out: Path) -> None:
    """Move every entry of `staging` to `out`, the marker last; drop what only the old run had."""
    before = _report(out).get("files", ())
    (out / MARKER).unlink(missing_ok=True)
    fresh = sorted(staging.iterdir(), key=lambda path: path.name == MARKER)
    written = {str(p.relative_to(staging)) for p in staging.rglob("*") if p.is_file()}
    for name in before:
        stale = out / name
        if (
            name not in written
            and stale.is_file()
            and stale.resolve().is_relative_to(out.resolve())
        ):
            stale.unlink()
    for path in fresh:
        if path.is_dir():
            shutil.rmtree(out / path.name, ignore_errors=True)
        os.replace(path, out / path.name)


def _sweep(home: Path) -> None:
    """Remove staging folders of processes that are gone."""
    for left in home.glob(f"{STAGING}-*-*"):
        owner = left.name.removeprefix(f"{STAGING}-").split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            _remove(left)


def _remove(path: Path) -> None:
    """Remove a file or a folder where there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Bring a file's bytes, or the renames within a folder, to disk."""
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


def _explain(error: OSError, path: Path) -> EnvironmentProblem | UsageError:
    """Return the error of ours that says what to do about `error` at `path`."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return EnvironmentProblem(
            f"{path}: the disk is full ({error.strerror}); free space or choose another place;"
            " nothing was left behind"
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return EnvironmentProblem(
            f"{path}: not allowed to write into {path.parent}; change its permissions or choose"
            " another place"
        )
    if error.errno == errno.EISDIR:
        return UsageError(f"{path} is a folder; give the name of a file")
    return EnvironmentProblem(
        f"{path}: cannot be written ({error.strerror or error}); choose another place"
    )
