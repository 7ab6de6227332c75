"""Files and folders that are complete or absent: written under a hidden name, then renamed.

A rename within a folder is atomic. `atomic_files` writes beside the final names, flushes every file
to disk and renames in the order given, so that a file which names another comes last. On any
failure, interruption included, the hidden files are removed and what was there before stays.

`atomic_folder` writes into a staging folder, a hidden sibling, or inside a folder that is there and
cannot be exchanged as a whole (`core/replace_folder.py`). A folder with other people's files is
refused by `check_out` before anything slow.

A process that is killed leaves at most what is hidden; the next writer there removes it
(`core/staging.py`).
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from dfqonnx.core.replace_folder import (
    can_exchange,
    exchange,
    finish,
    flush,
    flush_tree,
    move_in,
    read_names,
    read_report,
)
from dfqonnx.core.staging import CONTENT, LOCK, STAGING, is_ours, remove, staging_folder
from dfqonnx.errors import EnvironmentProblem, UsageError

EXTERNAL = ".data"  # what is behind a model's name in that of its weights
LOCK_SECONDS = 60.0  # that another run may take to put its result in place


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
        Path(tempfile.mkdtemp(prefix=f"{STAGING}-", dir=home)).rmdir()
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
    """Yield a hidden place for every path; on a clean exit what is written there is at `paths`.

    All paths are in one folder, which is made where it is missing. A file is replaced, and a folder
    replaces an empty folder.

    Raises:
        UsageError: a folder stands where a file is to be.
        EnvironmentProblem: the disk is full or fails, or the place is not writable.
    """
    path, home = paths[0], paths[0].parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        with staging_folder(home) as staging:
            places = tuple(staging / path.name for path in paths)
            yield places
            for place in places:
                flush(place)
            for path, place in zip(paths, places, strict=True):
                if place.is_dir() and path.is_dir():
                    path.rmdir()
                place.replace(path)
            flush(home)
    except OSError as error:
        raise _explain(error, path) from None


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
        finish(out)
        _refuse_foreign(out)
    elif out.exists() or out.is_symlink():
        raise UsageError(f"--out {out}: is a file; give the name of a folder")
    check_writable(out, out=out)


def check_model_out(file: Path, folder: Path, model: Path) -> None:
    """Refuse a file for the quantized model that is not ours to replace.

    One is ours where the report in `folder`, beside it, names it.

    Raises:
        UsageError: it is the float model, a folder, or somebody else's.
        EnvironmentProblem: the nearest folder above it is not writable.
    """
    check_file_out(file)
    if file.exists() and model.exists() and file.samefile(model):
        raise UsageError(f"--out {file}: is the float model itself; choose another name")
    if file.exists() and file.name not in read_names(folder):
        raise UsageError(
            f"--out {file}: is there, and no report in {folder}/ says that dfqonnx wrote it; choose"
            " another name, or remove it"
        )


def copy_model(written: Path, file: Path) -> None:
    """Put a copy of a model, and of the weights beside it, to another place in one step each.

    Raises:
        EnvironmentProblem: the disk is full or fails, or the place is not writable.
    """
    data = written.with_name(f"{written.name}{EXTERNAL}")
    pairs = [(data, file.with_name(f"{file.name}{EXTERNAL}"))] if data.is_file() else []
    pairs.append((written, file))
    with atomic_files(*(to for _, to in pairs)) as places:
        for (source, _), place in zip(pairs, places, strict=True):
            shutil.copyfile(source, place)


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into; on a clean exit its content stands under `out`.

    `out` must have passed `check_out`.

    Raises:
        EnvironmentProblem: the disk is full or fails, or the place is not writable.
    """
    given, out = out, out.absolute()
    if out.is_dir():
        finish(out)
    inside = out.is_dir() and not can_exchange(out)
    home = out if inside else out.parent
    home.mkdir(parents=True, exist_ok=True)
    with _explained(given), staging_folder(home) as staging:
        yield staging
        if inside:
            move_in(staging, out)
            return
        flush_tree(staging)
        with FileLock(home / LOCK, timeout=LOCK_SECONDS):
            if out.is_dir() and not exchange(staging, out):
                _move_across(staging, out)
            elif staging.is_dir() and not out.exists():
                staging.rename(out)
            remove(home / LOCK)


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Name `out` where writing below it failed, not a file of a hidden folder that is gone."""
    try:
        yield
    except OSError as error:
        hidden = STAGING in str(error.filename or "")
        if hidden or error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise _explain(error, out) from None
        raise


def _move_across(staging: Path, out: Path) -> None:
    """Move a finished folder into one that appeared, or that could not be exchanged."""
    with staging_folder(out) as place:
        for entry in staging.iterdir():
            shutil.move(entry, place / entry.name)
        move_in(place, out)


def _refuse_foreign(out: Path) -> None:
    names = [path.name for path in out.iterdir() if not is_ours(path.name)]
    if names and not str(read_report(out).get("schema", "")).startswith("dfqonnx.report/"):
        raise UsageError(
            f"--out {out}: holds files that dfqonnx did not write ({sorted(names)[0]}, ...); "
            "choose an empty or new folder"
        )


def _explain(error: OSError, path: Path) -> EnvironmentProblem | UsageError:
    """Return the error of ours that says what to do about `error` at `path`."""
    parts = path.parts
    if CONTENT in parts and is_ours(parts[parts.index(CONTENT) - 1]):  # of a hidden folder
        path = Path(*parts[parts.index(CONTENT) + 1 :])
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
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
