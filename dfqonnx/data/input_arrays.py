"""Arrays to measure on: an npy, or an npz with x and perhaps y; their names: `usual_arrays.py`.

For models that read no images x has the model's own shape behind its first axis and goes in as it
is; y are classes (N,), or what the first output should be (N, ...).

For models that read images x holds pixels (`arrays.to_images`), or what the model reads
(`holds_tensors`); y are classes in one of the forms of `class_labels.py`, whole numbers (N, h, w)
that are masks, or what the first output should be (N, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.arrays import ArrayImages, read_class_names, read_names, to_images
from dfqonnx.data.class_labels import KnownClasses, match_names, read_class_array, to_classes
from dfqonnx.data.label_types import ArrayMasks, Labels, ValueLabels
from dfqonnx.data.usual_arrays import read_usual_arrays
from dfqonnx.errors import UsageError

FLAG = "--eval-data"
COLORS = 3  # channels


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


def read_tensors(
    path: Path, shape: tuple[int, ...], known: KnownClasses
) -> tuple[ArrayTensors, Labels | None]:
    """Read inputs for a model that takes `shape` (no batch axis), and labels where there are some.

    Raises:
        UsageError: damaged, of another shape, not numbers, or x and y of different lengths.
    """
    where = f"{FLAG} {path}"
    arrays = read_usual_arrays(path, flag=FLAG)
    x, y = _check_inputs(arrays["x"], shape, where), arrays.get("y")
    return ArrayTensors(x), None if y is None else _to_labels(y, len(x), known, where)


def read_input_values(path: Path, shape: tuple[int, ...], *, flag: str) -> NDArray[np.float32]:
    """Return the inputs (N, *shape) of an npz or npy for a model that takes `shape`.

    Raises:
        UsageError: damaged, of another shape, or not numbers.
    """
    x = read_usual_arrays(path, flag=flag, labeled=False)["x"]
    return _check_inputs(x, shape, f"{flag} {path}").astype(np.float32)


def holds_tensors(path: Path, inputs: InputFormat) -> bool:
    """Return whether x is no pixels, but what a model that reads images reads.

    That are floats of the model's own shape, but for colors: where all are 0 to 1, or 0 to 255, and
    the model reads negative numbers, or smaller ones, they are pixels.

    Raises:
        UsageError: damaged, or without x.
    """
    x = read_usual_arrays(path, flag=FLAG, labeled=False)["x"]
    if x.dtype.kind != "f" or x.shape[1:] != inputs.shape or not x.size:
        return False
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 255) or inputs.image_size[2] != COLORS:
        return True
    ranges = [inputs.preprocessing.range(c) for c in range(COLORS)]
    if min(least for least, _ in ranges) < 0:  # preprocessed, hardly any is without a negative
        return False
    return high <= 1.5 * max(most for _, most in ranges)


def read_images(
    path: Path, size: tuple[int, int, int], known: KnownClasses
) -> tuple[ArrayImages, Labels | None, tuple[str, ...]]:
    """Read images of (H, W, C) `size`, labels where there are some, and names of classes.

    Raises:
        UsageError: damaged, of another size, or x and y of different lengths.
    """
    where = f"{FLAG} {path}"
    arrays = read_usual_arrays(path, flag=FLAG)
    images, y = to_images(arrays["x"], size, where=where), arrays.get("y")
    if not len(images.pixels):
        raise UsageError(f"{where}: it holds no images")
    if y is None:
        return images, None, ()
    if y.ndim == 3 and y.dtype.kind in "iub" and len(y) == len(images.pixels):
        return images, ArrayMasks(y.astype(np.int64)), ()
    names = read_names(y)
    if names is not None:
        labels, class_names = to_classes(names, known, where=where)
        return images, labels, class_names
    found = _to_labels(y, len(images.pixels), known, where)
    if not isinstance(found, np.ndarray):
        return images, found, ()
    return images, *match_names(found, read_class_names(path), known, where=where)


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


def _to_labels(y: NDArray[Any], count: int, known: KnownClasses, where: str) -> Labels:
    if y.ndim == 0 or len(y) != count:
        there = len(y) if y.ndim else "no"
        raise UsageError(f"{where}: x holds {count} inputs, y {there} labels")
    classes = read_class_array(y, known)
    if classes is not None:
        return classes
    if y.dtype.kind not in "fiub" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise UsageError(f"{where}: y is {y.dtype}, or not finite; expected classes or numbers")
    return ValueLabels(y[:, None] if y.ndim == 1 else y)
