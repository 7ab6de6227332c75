"""Images of any origin without labels: a folder of image files, an npz, or a run's held-out images.

An npz must have the model's height and width; files of another size are scaled by the shorter side
and cut, and their `note` says so. The images that a run held out from training lie beside its
student:

    FOLDER/NAME.onnx, FOLDER/synthetic/images.npz: x uint8 (N, H, W, C), held: their places among x
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.arrays import read_unlabeled
from dfqonnx.data.image_files import SUFFIXES, FolderImages, ImageSource
from dfqonnx.data.npz_file import list_arrays, read_arrays
from dfqonnx.data.parquet_images import holds_parquet, open_rows, read_parquet
from dfqonnx.data.usual_arrays import read_usual_arrays
from dfqonnx.errors import UsageError

PLACE = Path("synthetic") / "images.npz"


def open_images(
    path: Path, size: tuple[int, int, int], *, flag: str = "--images"
) -> tuple[ImageSource, int]:
    """Open an npz or a folder, sub-folders counted in, for a model that takes (H, W, C) `size`.

    Returns:
        what reads the images, and how many there are.

    Raises:
        UsageError: missing, empty, or of another form.
    """
    if path.exists() and holds_parquet(path):
        rows = read_parquet(path, flag=flag)
        return open_rows(path, rows, size, flag=flag), len(rows.images)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        names = tuple(str(p.relative_to(path)) for p in found)
        if not names:
            raise UsageError(
                f"{flag} {path}: no image files in it; it may hold {', '.join(SUFFIXES)}"
            )
        return FolderImages(path, names, size, flag=flag), len(names)
    if not path.is_file():
        raise UsageError(f"{flag} {path}: no such file or folder")
    if path.suffix.lower() in SUFFIXES:
        return FolderImages(path.parent, (path.name,), size, flag=flag), 1
    check_array_file(path, flag=flag)
    images = read_unlabeled(path, size, flag=flag)
    return images, len(images.pixels)


def check_array_file(path: Path, *, flag: str) -> None:
    """Refuse a file that is neither npy nor npz.

    Raises:
        UsageError: it is of another kind.
    """
    if path.suffix.lower() not in {".npy", ".parquet"} and not zipfile.is_zipfile(path):
        raise UsageError(
            f"{flag} {path}: expected a folder of images, an npz with x, an npy or parquet"
        )


def verify_images(path: Path, *, flag: str = "--images") -> None:
    """Read images without labels once from end to end, whatever their size.

    Raises:
        UsageError: something is damaged; the message names the file and the entry.
    """
    if path.is_dir() or path.suffix.lower() in {*SUFFIXES, ".parquet"}:
        open_images(path, (1, 1, 1), flag=flag)[0].check()
    else:
        check_array_file(path, flag=flag)
        read_usual_arrays(path, flag=flag, labeled=False)


def read_held_out_images(student: Path, size: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """Return the images (N, H, W, C) that the run of the quantized file `student` held out.

    None where there are none, of this size, that are known to be held out.
    """
    path = student.parent / PLACE
    if not path.is_file():
        return None
    try:
        if not {"x", "held"} <= set(list_arrays(path, flag="images")):
            return None
        found = read_arrays(path, ("x", "held"), flag="images")
    except UsageError:
        return None
    images, places = found["x"], found["held"]
    fits = images.dtype == np.uint8 and images.shape[1:] == size
    known = places.ndim == 1 and places.size > 0 and np.issubdtype(places.dtype, np.integer)
    if not (fits and known and places.min() >= 0 and places.max() < len(images)):
        return None
    return np.ascontiguousarray(images[places])
