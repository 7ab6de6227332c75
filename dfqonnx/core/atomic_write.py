"""One file or folder, complete or absent: written under a hidden name beside it, then renamed.

The output folder is complete or absent.

Everything is written to a staging folder first. When all is there:

- no folder of that name yet: the staging folder, a hidden sibling, is renamed: one atomic step;
- a folder that dfqonnx wrote before, or an empty one (a mounted volume, say): the staging folder
  lies inside; the old `report.json` goes first, each file is replaced by rename, and the new
  `report.json` comes last: a folder without it is not complete, and no file is ever half written;
- a folder with other people's files: refused before anything slow.

A run that is killed leaves at most a hidden staging folder, which the next run removes.
"""

from __future__ import annotations

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
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a hidden name; on a clean exit what was written there stands at `path`.

    A file of that name is replaced, and so is an empty folder.

    Raises:
        EnvironmentProblem: the disk is full or fails.
    """
    place = path.with_name(f"{STAGING}-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield place
        if path.is_dir():
            path.rmdir()
        place.replace(path)
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: cannot be written ({error.strerror}); make room there or choose another place"
        ) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            place.unlink(missing_ok=True)


MARKER = "report.json"


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

    Args:
        out: final place; must have passed `check_out`.

    Yields:
        the staging folder.
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
    if names and not _ours(out):
        raise UsageError(
            f"--out {out}: holds files that dfqonnx did not write ({sorted(names)[0]}, ...); "
            "choose an empty or new folder"
        )


def _ours(out: Path) -> bool:
    return _report(out).get("schema", "").startswith("dfqonnx.report/")


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
            shutil.rmtree(left, ignore_errors=True)
