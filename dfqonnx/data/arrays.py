"""Images in an npz file or npy: pixels, perhaps labels and class names; see `to_images`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.data.class_labels import KnownClasses, match_names, read_class_array, to_classes
from dfqonnx.data.foreign_files import parsing
from dfqonnx.data.npz_file import ObjectArray, list_arrays, read_arrays
from dfqonnx.data.usual_arrays import read_usual_arrays
from dfqonnx.errors import UsageError

NAMES = ("class_names", "classes", "names")  # arrays that may hold the names, in label order


@dataclass(frozen=True)
class ArrayImages:
    """Images that are already in memory."""

    pixels: NDArray[np.uint8]  # (N, H, W, C)
    told: str = ""  # what was done to the array

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop`."""
        return self.pixels[start:stop]

    def note(self) -> str:
        """Return how the numbers were taken for pixels; empty where they are uint8, NHWC."""
        return self.told

    def check(self) -> None:
        """Do nothing: what is in memory was read whole."""


def read_labeled(
    path: Path, size: tuple[int, int, int], known: KnownClasses
) -> tuple[ArrayImages, NDArray[np.int64], tuple[str, ...]]:
    """Read images, labels and class names for a model that takes (height, width, channels) `size`.

    Raises:
        UsageError: unreadable, or not what the model takes.
    """
    where = f"--eval-data {path}"
    x, y = read_labeled_arrays(path, known)
    images = to_images(x, size, where=where)
    own = read_class_names(path)
    if isinstance(y, tuple):
        return images, *to_classes(y, known, where=where)
    return images, *match_names(y, own, known, where=where)


def read_labeled_arrays(
    path: Path, known: KnownClasses
) -> tuple[NDArray[Any], NDArray[np.int64] | tuple[str, ...]]:
    """Return x and y of an npz whatever the images' size; y are classes or names.

    Raises:
        UsageError: unreadable, or y is something else.
    """
    flag = "--eval-data"
    arrays = read_usual_arrays(path, flag=flag, labeled=True)
    x, y = arrays["x"], arrays["y"]
    labels = read_names(y) or read_class_array(y, known)
    if labels is None:
        raise UsageError(
            f"{flag} {path}: y is {y.dtype} of shape {y.shape}; expected integers of shape"
            f" ({len(x)},), names, or one-hot rows"
        )
    if x.ndim == 0 or len(x) != len(labels):
        count = len(x) if x.ndim else "no"
        raise UsageError(f"{flag} {path}: x holds {count} images, y {len(labels)} labels")
    if y.dtype.kind == "u" and len(y) and int(y.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"{flag} {path}: label {int(y.max())} is no class")
    return x, labels


def read_names(y: NDArray[Any]) -> tuple[str, ...] | None:
    """Return labels that are texts (N,); None for an array of something else."""
    is_text = y.ndim == 1 and y.dtype.kind in "US" and len(y) > 0
    return tuple(map(_decode_name, y.tolist())) if is_text else None


def read_unlabeled(
    path: Path, size: tuple[int, int, int], *, flag: str = "--images"
) -> ArrayImages:
    """Read images for a model that takes (height, width, channels) `size`.

    Raises:
        UsageError: unreadable, empty, or not what the model takes.
    """
    x = read_usual_arrays(path, flag=flag, labeled=False)["x"]
    found = to_images(x, size, where=f"{flag} {path}")
    if not len(found.pixels):
        raise UsageError(f"{flag} {path}: it holds no images")
    return found


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in label order; empty where the file has none.

    Raises:
        UsageError: there are some, and they are damaged.
    """
    flag = "--eval-data"
    if path.suffix.lower() == ".npy":
        return ()
    known = list_arrays(path, flag=flag)
    arrays = []
    for key in NAMES:
        with suppress(ObjectArray):
            arrays += [read_arrays(path, (key,), flag=flag)[key]] if key in known else []
    names = next((a for a in arrays if a.ndim == 1 and a.dtype.kind in "US"), None)
    with parsing(f"{flag} {path}: class names", "array of texts"):
        return () if names is None else tuple(map(_decode_name, names.tolist()))


def to_images(x: NDArray[Any], size: tuple[int, int, int], *, where: str) -> ArrayImages:
    """Return the images that an array holds.

    uint8 (N, H, W, C) are taken as they are, and (N, H, W) for a gray model. (N, C, H, W) is
    transposed. Other whole numbers and floats must lie between 0 and 255; floats between 0 and 1
    are multiplied by 255.

    Raises:
        UsageError: another shape, or other numbers.
    """
    height, width, channels = size
    wanted = f"uint8 (N, {height}, {width}, {channels}), pixels 0 to 255"
    told = []
    if x.ndim == 3 and channels == 1:
        x = x[..., None]
    if x.ndim == 4 and x.shape[1:] != size and x.shape[1:] == (channels, height, width):
        x = x.transpose(0, 2, 3, 1)
        told.append("x has the channels first, and was transposed")
    if x.ndim != 4 or x.shape[1:] != size:
        raise UsageError(f"{where}: x has shape {x.shape}; expected {wanted}")
    if x.dtype != np.uint8:
        low, high = _find_limits(x, where, wanted)
        scale = 255.0 if x.dtype.kind == "f" and high <= 1 else 1.0
        told.append(
            f"x is {x.dtype} from {low:g} to {high:g}, taken for pixels"
            + (" divided by 255" if scale > 1 else "")
        )
        x = round_to_pixels(x.astype(np.float32) * np.float32(scale))
    return ArrayImages(np.ascontiguousarray(x), "; ".join(told))


def _find_limits(x: NDArray[Any], where: str, wanted: str) -> tuple[float, float]:
    if x.dtype.kind not in "iuf":
        raise UsageError(f"{where}: x is {x.dtype}; expected {wanted}")
    low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):
        raise UsageError(
            f"{where}: x is {x.dtype}; expected {wanted} (or floats 0 to 1), and these are"
            f" {low:g} to {high:g}. Values that are preprocessed already go in as they are if x has"
            " the shape of the model's input"
        )
    return low, high


def _decode_name(name: str | bytes) -> str:
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else name
