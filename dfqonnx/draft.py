"""One file or folder, complete or absent: written under a hidden name beside it, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
def draft(path: Path) -> Iterator[Path]:
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
