"""Evaluation images in an npz file: x uint8 (N, H, W, C), y integers (N), perhaps class names."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def read_npz(path: Path, size: tuple[int, int, int]) -> tuple[ArrayImages, NDArray[np.int64]]:
    """Read images and labels for a model that takes (height, width, channels) `size`.

    Raises:
        UsageError: unreadable, or not what the model takes.
    """
    x, y = _arrays(path)
    height, width, channels = size
    wanted = f"uint8 (N, {height}, {width}, {channels}), pixels 0 to 255"
    if x.dtype != np.uint8:
        raise UsageError(f"--eval-data {path}: x is {x.dtype}; expected {wanted}")
    if x.ndim == 3 and channels == 1:
        x = x[..., None]
    if x.ndim != 4 or x.shape[1:] != size:
        hint = ""
        if x.ndim == 4 and x.shape[1:] == (channels, height, width):
            hint = "; it looks like NCHW: store x.transpose(0, 2, 3, 1)"
        raise UsageError(f"--eval-data {path}: x has shape {x.shape}; expected {wanted}{hint}")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UsageError(
            f"--eval-data {path}: y is {y.dtype} of shape {y.shape}; expected integers of shape"
            f" ({len(x)},)"
        )
    if len(x) != len(y):
        raise UsageError(f"--eval-data {path}: x holds {len(x)} images, y {len(y)} labels")
    return ArrayImages(x), y.astype(np.int64)


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as found:
            missing = [key for key in ("x", "y") if key not in found.files]
            if missing:
                raise UsageError(
                    f"--eval-data {path}: array {missing[0]!r} is missing (it has"
                    f" {', '.join(found.files) or 'none'}); save with"
                    " numpy.savez(path, x=..., y=...)"
                )
            return found["x"], found["y"]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"--eval-data {path}: not a readable npz file ({error})") from None


def read_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in label order; empty where the file has none."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = (found[key] for key in NAMES if key in found.files)
            names = next((a for a in arrays if a.ndim == 1 and a.dtype.kind in "US"), None)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):  # an array of objects, too
        return ()
    return () if names is None else tuple(map(_text, names.tolist()))


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else name
