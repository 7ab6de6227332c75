"""Images on disk, complete or absent: npz, npy, or a folder of PNG files, and what lies beside.

Everything is written under a hidden name in the same folder and renamed at the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.errors import EnvironmentProblem, UsageError
from dfqonnx.spec.dream import DreamSpec

_STAGING = ".dfqonnx-partial"


@dataclass(frozen=True)
class Made:
    """What is to be written.

    Attributes:
        pixels: uint8 (N, H, W, C).
        classes: int64 (N) as the network sees them; None where it tells none apart.
        tensor: float32, for an npy; None elsewhere.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.int64] | None
    tensor: NDArray[np.float32] | None = None


def check_images_out(spec: DreamSpec) -> None:
    """Refuse a place that could not be written at the end.

    Raises:
        UsageError: a folder with something in it, or a folder where a file is to be.
        EnvironmentProblem: it cannot be written to.
    """
    out = spec.out
    if spec.kind == "folder" and out.exists():
        if not out.is_dir():
            raise UsageError(f"--out {out}: is a file; end it with .npz or .npy, or give a folder")
        if any(out.iterdir()):
            raise UsageError(f"--out {out}: is not empty; choose an empty or new folder")
    elif spec.kind != "folder" and out.is_dir():
        raise UsageError(f"--out {out}: is a folder; give the name of a file")
    home = next(path for path in out.absolute().parents if path.exists())
    if not home.is_dir():
        raise UsageError(f"--out {out}: {home} is a file, not a folder")
    try:
        Path(tempfile.mkdtemp(prefix=_STAGING, dir=home)).rmdir()
    except OSError as error:
        raise EnvironmentProblem(
            f"--out {out}: {home} is not writable ({error.strerror}); choose another --out"
        ) from None


def write_images_out(spec: DreamSpec, made: Made) -> None:
    """Write the images to `spec.out`.

    Raises:
        EnvironmentProblem: the disk is full or fails.
    """
    with draft(spec.out) as place:
        if spec.kind == "folder":
            _write_folder(place, made)
        elif made.tensor is not None:
            with place.open("wb") as file:
                np.save(file, made.tensor, allow_pickle=False)
        else:
            arrays: dict[str, Any] = {"x": made.pixels}
            if made.classes is not None:
                arrays["y"] = made.classes
            with place.open("wb") as file:
                np.savez_compressed(file, **arrays)


def write_beside(path: Path, save: Callable[[Path], None]) -> None:
    """Let `save` write a file that appears under `path` when it is complete."""
    with draft(path) as place:
        save(place)


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield a hidden name; on a clean exit what was written there stands at `path`.

    Raises:
        EnvironmentProblem: the disk is full or fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f"{_STAGING}-{os.getpid()}-{path.name}")
    try:
        yield place
        if path.is_dir():  # an empty one: `check_images_out` saw to that
            path.rmdir()
        place.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"--out {path}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
        place.unlink(missing_ok=True)


def _write_folder(folder: Path, made: Made) -> None:
    """Write NNNNN.png and, where classes are known, labels.csv."""
    folder.mkdir()
    digits = max(5, len(str(len(made.pixels) - 1)))
    names = [f"{index:0{digits}d}.png" for index in range(len(made.pixels))]
    for name, image in zip(names, made.pixels, strict=True):
        flat = image[..., 0] if image.shape[2] == 1 else image
        Image.fromarray(flat).save(folder / name)
    if made.classes is not None:
        rows = [f"{n},{c}\n" for n, c in zip(names, made.classes.tolist(), strict=True)]
        (folder / "labels.csv").write_text("file,label\n" + "".join(rows), encoding="utf-8")
