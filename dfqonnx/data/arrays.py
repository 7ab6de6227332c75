"""Images in an npz file: x uint8 (N, H, W, C), perhaps labels y (N) and class names."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import UsageError

NAMES = ("class_names", "classes", "names")  # arrays that may hold the names, in label order
BAD_NPZ = (OSError, ValueError, zipfile.BadZipFile, EOFError)  # an array of objects, too


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


def read_labeled(path: Path, size: tuple[int, int, int]) -> tuple[ArrayImages, NDArray[np.int64]]:
    """Read images and labels for a model that takes (height, width, channels) `size`.

    Raises:
        UsageError: unreadable, or not what the model takes.
    """
    flag = "--eval-data"
    arrays = _read_arrays(path, ("x", "y"), flag=flag)
    x, y = _check_pixels(arrays["x"], size, where=f"{flag} {path}"), arrays["y"]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UsageError(
            f"{flag} {path}: y is {y.dtype} of shape {y.shape}; expected integers of shape"
            f" ({len(x)},)"
        )
    if len(x) != len(y):
        raise UsageError(f"{flag} {path}: x holds {len(x)} images, y {len(y)} labels")
    return ArrayImages(x), y.astype(np.int64)


def read_unlabeled(path: Path, size: tuple[int, int, int]) -> ArrayImages:
    """Read images for a model that takes (height, width, channels) `size`.

    Raises:
        UsageError: unreadable, empty, or not what the model takes.
    """
    flag = "--images"
    x = _check_pixels(_read_arrays(path, ("x",), flag=flag)["x"], size, where=f"{flag} {path}")
    if not len(x):
        raise UsageError(f"{flag} {path}: it holds no images")
    return ArrayImages(np.ascontiguousarray(x))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in label order; empty where the file has none."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = (found[key] for key in NAMES if key in found.files)
            names = next((a for a in arrays if a.ndim == 1 and a.dtype.kind in "US"), None)
    except BAD_NPZ:
        return ()
    return () if names is None else tuple(map(_decode_name, names.tolist()))


def _read_arrays(path: Path, keys: tuple[str, ...], *, flag: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as found:
            missing = [key for key in keys if key not in found.files]
            if missing:
                wanted = ", ".join(f"{key}=..." for key in keys)
                raise UsageError(
                    f"{flag} {path}: array {missing[0]!r} is missing (it has"
                    f" {', '.join(found.files) or 'none'}); save with numpy.savez(path, {wanted})"
                )
            return {key: found[key] for key in keys}
    except BAD_NPZ as error:
        raise UsageError(f"{flag} {path}: not a readable npz file ({error})") from None


def _check_pixels(x: NDArray[Any], size: tuple[int, int, int], *, where: str) -> NDArray[np.uint8]:
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
