"""Images in an npz file: x uint8 (N, H, W, C), perhaps labels y (N) and class names."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.foreign_files import parsing
from dfqonnx.data.npz_file import ObjectArray, list_arrays, read_arrays
from dfqonnx.errors import UsageError

NAMES = ("class_names", "classes", "names")  # arrays that may hold the names, in label order


@dataclass(frozen=True)
class ArrayImages:
    """Images that are already in memory."""

    pixels: NDArray[np.uint8]  # (N, H, W, C)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop`."""
        return self.pixels[start:stop]

    def note(self) -> str:
        """Return nothing: the images are used as they are."""
        return ""

    def check(self) -> None:
        """Do nothing: what is in memory was read whole."""


def read_labeled(path: Path, size: tuple[int, int, int]) -> tuple[ArrayImages, NDArray[np.int64]]:
    """Read images and labels for a model that takes (height, width, channels) `size`.

    Raises:
        UsageError: unreadable, or not what the model takes.
    """
    flag = "--eval-data"
    x, y = read_labeled_arrays(path)
    x = check_pixels(x, size, where=f"{flag} {path}")
    return ArrayImages(x), y.astype(np.int64)


def read_labeled_arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.integer[Any]]]:
    """Return x and y of an npz whatever the images' size; y are integers, as many as images.

    Raises:
        UsageError: unreadable, or y is something else.
    """
    flag = "--eval-data"
    arrays = read_arrays(path, ("x", "y"), flag=flag)
    x, y = arrays["x"], arrays["y"]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UsageError(
            f"{flag} {path}: y is {y.dtype} of shape {y.shape}; expected integers of shape"
            f" ({len(x)},)"
        )
    if x.ndim == 0 or len(x) != len(y):
        count = len(x) if x.ndim else "no"
        raise UsageError(f"{flag} {path}: x holds {count} images, y {len(y)} labels")
    if y.dtype.kind == "u" and len(y) and int(y.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"{flag} {path}: label {int(y.max())} is no class")
    return x, y


def read_unlabeled(path: Path, size: tuple[int, int, int]) -> ArrayImages:
    """Read images for a model that takes (height, width, channels) `size`.

    Raises:
        UsageError: unreadable, empty, or not what the model takes.
    """
    flag = "--images"
    x = check_pixels(read_arrays(path, ("x",), flag=flag)["x"], size, where=f"{flag} {path}")
    if not len(x):
        raise UsageError(f"{flag} {path}: it holds no images")
    return ArrayImages(np.ascontiguousarray(x))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in label order; empty where the file has none.

    Raises:
        UsageError: there are some, and they are damaged.
    """
    flag = "--eval-data"
    known = list_arrays(path, flag=flag)
    arrays = []
    for key in NAMES:
        with suppress(ObjectArray):
            arrays += [read_arrays(path, (key,), flag=flag)[key]] if key in known else []
    names = next((a for a in arrays if a.ndim == 1 and a.dtype.kind in "US"), None)
    with parsing(f"{flag} {path}: class names", "array of texts"):
        return () if names is None else tuple(map(_decode_name, names.tolist()))


def check_pixels(x: NDArray[Any], size: tuple[int, int, int], *, where: str) -> NDArray[np.uint8]:
    """Return x as (N, H, W, C), or refuse it."""
    height, width, channels = size
    wanted = f"uint8 (N, {height}, {width}, {channels}), pixels 0 to 255"
    if x.dtype != np.uint8:
        raise UsageError(f"{where}: x is {x.dtype}; expected {wanted}")
    if x.ndim == 3 and channels == 1:
        x = x[..., None]
    if x.ndim != 4 or x.shape[1:] != size:
        hint = ""
        if x.ndim == 4 and x.shape[1:] == (channels, height, width):
            hint = "; it looks like NCHW: store x.transpose(0, 2, 3, 1)"
        raise UsageError(f"{where}: x has shape {x.shape}; expected {wanted}{hint}")
    return x


def _decode_name(name: str | bytes) -> str:
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else name
