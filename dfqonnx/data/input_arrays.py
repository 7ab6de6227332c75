"""Arrays to measure on: npy with x, or npz with x and perhaps y.

For models that read no images x has the model's own shape behind its first axis and goes in as it
is; y are classes (N,), or what the first output should be (N, ...).

For models that read images x holds pixels, uint8 (N, H, W, C), in an npz, or other numbers of the
model's own shape, which go in as they are; y are classes (N,), whole
numbers (N, h, w) that are masks, or what the first output should be (N, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.arrays import ArrayImages, check_pixels
from dfqonnx.data.foreign_files import check_unpacked, parsing
from dfqonnx.data.label_types import ArrayMasks, Labels, ValueLabels
from dfqonnx.data.npz_file import list_arrays, read_arrays
from dfqonnx.errors import UsageError

FLAG = "--eval-data"


@dataclass(frozen=True)
class ArrayTensors:
    """Inputs that are already in memory, as the model reads them."""

    values: NDArray[Any]  # (N, *shape)

    def read_tensor(self, start: int, stop: int, inputs: InputFormat) -> NDArray[Any]:
        """Return inputs `start` to `stop`."""
        return self.values[start:stop]

    def note(self) -> str:
        """Return nothing: they are used as they are."""
        return ""

    def check(self) -> None:
        """Do nothing: what is in memory was read whole."""


def read_tensors(path: Path, shape: tuple[int, ...]) -> tuple[ArrayTensors, Labels | None]:
    """Read inputs for a model that takes `shape` (no batch axis), and labels where there are some.

    Raises:
        UsageError: damaged, of another shape, not numbers, or x and y of different lengths.
    """
    where = f"{FLAG} {path}"
    if path.suffix.lower() == ".npy":
        x, y = read_npy(path, where), None
    else:
        keys = ("x", "y") if "y" in list_arrays(path, flag=FLAG) else ("x",)
        arrays = read_arrays(path, keys, flag=FLAG)
        x, y = arrays["x"], arrays.get("y")
    x = _check_inputs(x, shape, where)
    return ArrayTensors(x), None if y is None else _to_labels(y, len(x), where)


def holds_tensors(path: Path, shape: tuple[int, ...]) -> bool:
    """Return whether x of an npz is no pixels, but has the model's own `shape` (no batch axis).

    Raises:
        UsageError: damaged, or without x.
    """
    x = read_arrays(path, ("x",), flag=FLAG)["x"]
    return bool(x.dtype != np.uint8 and x.shape[1:] == shape)


def read_images(path: Path, size: tuple[int, int, int]) -> tuple[ArrayImages, Labels | None]:
    """Read images of (H, W, C) `size` from an npz, and labels where there are some.

    Raises:
        UsageError: damaged, of another size, or x and y of different lengths.
    """
    where = f"{FLAG} {path}"
    keys = ("x", "y") if "y" in list_arrays(path, flag=FLAG) else ("x",)
    arrays = read_arrays(path, keys, flag=FLAG)
    x, y = check_pixels(arrays["x"], size, where=where), arrays.get("y")
    if not len(x):
        raise UsageError(f"{where}: it holds no images")
    if y is not None and y.ndim == 3 and y.dtype.kind in "iub" and len(y) == len(x):
        return ArrayImages(x), ArrayMasks(y.astype(np.int64))
    return ArrayImages(x), None if y is None else _to_labels(y, len(x), where)


def read_npy(path: Path, where: str) -> NDArray[Any]:
    """Return the array of an npy file.

    Raises:
        UsageError: it is damaged, of objects, or larger than memory.
    """
    with parsing(where, "npy file"), path.open("rb") as file:
        check_unpacked(where, path.stat().st_size)
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array


def _check_inputs(x: NDArray[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    wanted = f"numbers of shape (N, {', '.join(map(str, shape))})"
    if x.dtype.kind not in "fiub":
        raise UsageError(f"{where}: x is {x.dtype}; expected {wanted}")
    if x.shape == shape:
        x = x[None]  # a single input
    if x.shape[1:] != shape:
        raise UsageError(f"{where}: x has shape {x.shape}; expected {wanted}")
    if not len(x):
        raise UsageError(f"{where}: it holds no inputs")
    if x.dtype.kind == "f":
        odd = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(1))
        if len(odd):
            raise UsageError(f"{where}: input {odd[0]} of x is not finite")
        return x.astype(np.float32)
    return x.astype(np.uint8) if x.dtype.kind == "b" else x


def _to_labels(y: NDArray[Any], count: int, where: str) -> Labels:
    if y.ndim == 0 or len(y) != count:
        there = len(y) if y.ndim else "no"
        raise UsageError(f"{where}: x holds {count} inputs, y {there} labels")
    if y.dtype.kind in "iu" and y.ndim == 1:
        return y.astype(np.int64)
    if y.dtype.kind not in "fiub" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise UsageError(f"{where}: y is {y.dtype}, or not finite; expected classes or numbers")
    return ValueLabels(y[:, None] if y.ndim == 1 else y)
