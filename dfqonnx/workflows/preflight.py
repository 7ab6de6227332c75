"""The checks of paths, disk and packages before anything slow."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from dfqonnx.config.commands import RunConfig, ValidateConfig
from dfqonnx.core.atomic_write import check_model_out, check_out
from dfqonnx.data.image_files import SUFFIXES
from dfqonnx.data.labeled import check_kind
from dfqonnx.data.own_images import SOUND, refuse_shared_images, verify_own_images
from dfqonnx.data.task_data import is_known_kind
from dfqonnx.data.unlabeled import check_array_file, verify_images
from dfqonnx.data.verify_task_data import verify_task_data
from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.graph.file_signature import check_signature
from dfqonnx.runtime.session import require_runtime

MAX_NAME_BYTES = 255  # of a file, on all usual file systems
SPARE_BYTES = 64 * 2**20  # reports, the exported file's temporary copy


def check_paths(config: RunConfig) -> None:
    """Check paths, output folder, disk space and ONNX Runtime: what takes no time.

    Raises:
        UsageError: a path is wrong.
        EnvironmentProblem: a permission, the disk or a package is missing.
    """
    check_model(config.model, what="model")
    check_eval_data(config.eval_data)
    check_images(config.images)
    check_images(config.calibrate_with, flag="--calibrate-with", more=SOUND)
    refuse_shared_images(config.calibrate_with, eval_data=config.eval_data, images=config.images)
    _check_written_name(config)
    check_out(config.out)
    if config.file is not None:
        check_model_out(config.file, config.out, config.model)
    check_disk(config)
    require_runtime()


def preflight(config: RunConfig) -> None:
    """Check paths, and read evaluation data and images once from end to end.

    Raises:
        UsageError: a path is wrong, or data are damaged.
        EnvironmentProblem: a permission, the disk or a package is missing.
    """
    check_paths(config)
    verify_data(config.eval_data, config.images)
    if config.calibrate_with is not None:
        verify_own_images(config.calibrate_with)


def verify_data(eval_data: Path | None, images: Path | None = None) -> None:
    """Read evaluation data and images once from end to end; None is fine.

    Raises:
        UsageError: something is damaged; the message names the file and the entry.
    """
    if eval_data is not None:
        verify_task_data(eval_data)
    if images is not None:
        verify_images(images)


def check_disk(config: RunConfig, *, pixels: int = 0) -> None:
    """Refuse to begin on a disk that cannot hold the result, and `pixels` bytes of images.

    Raises:
        EnvironmentProblem: too little is free.
    """
    check_space(config.out, needed=SPARE_BYTES + 2 * config.model.stat().st_size + pixels)


def check_validation(config: ValidateConfig) -> None:
    """Check what `dfqonnx validate` was given.

    Raises:
        UsageError: a path is wrong.
        EnvironmentProblem: a permission, the disk or a package is missing.
    """
    check_model(config.teacher, what="--teacher")
    check_model(config.student, what="--student")
    check_eval_data(config.eval_data)
    check_images(config.images)
    if config.out is not None:
        check_name(config.out, what="--out")
        check_out(config.out)
    require_runtime()


def preflight_validation(config: ValidateConfig) -> None:
    """Check what `check_validation` checks, and read the data once from end to end.

    Raises:
        UsageError: a path is wrong, or data are damaged.
        EnvironmentProblem: a permission, the disk or a package is missing.
    """
    check_validation(config)
    verify_data(config.eval_data, config.images)


def check_file(path: Path, *, what: str) -> None:
    """Refuse a path that is not a readable file with something in it.

    Raises:
        UsageError: missing, a folder, empty or unreadable; the message says which.
    """
    check_name(path, what=what)
    if path.is_dir():
        raise UsageError(f"{what} {path}: is a folder; give an ONNX file")
    if not path.exists():
        raise UsageError(f"{what} {path}: no such file{_list_models(path)}")
    if not path.is_file():  # a pipe would wait for ever, and can be read only once
        raise UsageError(f"{what} {path}: is no plain file, but a pipe or a device; save it first")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UsageError(f"{what} {path}: cannot be read ({error.strerror})") from None
    if empty:
        raise UsageError(f"{what} {path}: the file is empty; was the download cut short?")


def check_model(path: Path, *, what: str) -> None:
    """Refuse a path that is no file, or a file that can be no ONNX model.

    Raises:
        UsageError: the message says which.
    """
    check_file(path, what=what)
    check_signature(path)


def check_name(path: Path, *, what: str) -> None:
    """Refuse a path that cannot be one, or that no report could name.

    Raises:
        UsageError: it is too long, holds a zero, or is no text.
    """
    try:
        str(path).encode("utf-8")
        path.exists()
    except UnicodeEncodeError:
        raise UsageError(
            f"{what} {path}: its name is not UTF-8, and reports could not name it; rename it"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{what} {path}: cannot be a path: {reason}") from None


def _check_written_name(config: RunConfig) -> None:
    """Refuse names that the file system could not give to what is written at the end."""
    check_name(config.out, what="--out")
    name = f"{config.student_name}.data"
    for written, advice in ((config.out.name, "choose another --out"), (name, "rename the model")):
        if len(written.encode()) > MAX_NAME_BYTES:
            raise UsageError(
                f"--out {config.out}: the name {written!r} would have {len(written.encode())} bytes"
                f" and {MAX_NAME_BYTES} are possible; {advice}"
            )


def check_eval_data(path: Path | None) -> None:
    """Refuse evaluation data that is neither npz, tar nor folder; None is fine.

    Raises:
        UsageError: missing or of another kind.
    """
    if path is None:
        return
    if is_known_kind(path):
        check_file(path, what="--eval-data")
        return
    kind = check_kind(path)
    if kind != "folder":
        check_file(path, what="--eval-data")
    if kind == "npz" and not zipfile.is_zipfile(path):
        raise UsageError(
            f"--eval-data {path}: is no npz by its content; expected an npz (x uint8 NHWC, y), a"
            " tar or a folder of images"
        )


def check_images(path: Path | None, *, flag: str = "--images", more: tuple[str, ...] = ()) -> None:
    """Refuse unlabeled images that are neither npz nor folder; None is fine.

    Files that end as `more` says are fine as well.

    Raises:
        UsageError: missing or of another kind.
    """
    if path is None:
        return
    check_name(path, what=flag)
    if path.is_dir():
        return
    check_file(path, what=flag)
    if path.suffix.lower() not in {*SUFFIXES, *more}:
        check_array_file(path, flag=flag)


def check_space(out: Path, *, needed: int) -> None:
    """Refuse a folder on a disk with fewer bytes than needed.

    Raises:
        EnvironmentProblem: too little is free.
    """
    home = next(path for path in (out, *out.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(home).free
    if free < needed:
        raise EnvironmentProblem(
            f"--out {out}: {free / 2**20:.0f} MiB free, about {needed / 2**20:.0f} MiB needed; "
            "free some space or choose another --out"
        )


def _list_models(path: Path) -> str:
    """Name the ONNX files that do lie there, for a mistyped name."""
    folder = path.parent
    names = sorted(p.name for p in folder.glob("*.onnx"))[:3] if folder.is_dir() else []
    return f"; {folder}/ has {', '.join(names)}" if names else ""
