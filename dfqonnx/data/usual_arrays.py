"""Arrays under the names that people give them: x and y of an npz, or an npy and the one beside it.

npz    x, images, data, inputs, x_test ..., arr_0      and  y, labels, targets, y_test ..., arr_1
npy    images.npy with labels.npy, x.npy with y.npy, x_test.npy with y_test.npy
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from dfqonnx.data.foreign_files import check_unpacked, parsing
from dfqonnx.data.npz_file import list_arrays, read_arrays

INPUTS = (
    "x", "images", "image", "imgs", "img", "data", "inputs", "input", "features", "samples",
    "pixels", "x_test", "test_x", "test_images", "images_test", "x_val", "val_images", "arr_0",
)  # fmt: skip
LABELS = (
    "y", "labels", "label", "targets", "target", "y_test", "test_y", "test_labels", "labels_test",
    "y_val", "val_labels", "class_ids", "arr_1",
)  # fmt: skip
_BESIDE = (("images", "labels"), ("data", "labels"), ("inputs", "targets"), ("x", "y"))


def find_array(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the name among `names` that is the first of the `usual` ones, whatever its case."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def read_usual_arrays(
    path: Path, *, flag: str, labeled: bool | None = None
) -> dict[str, NDArray[Any]]:
    """Return x, and y where there is one (or `labeled` asks for it), of an npz or npy.

    Raises:
        UsageError: one is missing, or damaged; the message names the entry.
    """
    if path.suffix.lower() == ".npy":
        found = {"x": read_npy(path, f"{flag} {path}")}
        beside = find_labels_beside(path) if labeled is not False else None
        if beside is not None:
            found["y"] = read_npy(beside, f"{flag} {beside}")
        return found
    names = list_arrays(path, flag=flag)
    x, y = find_array(names, INPUTS) or "x", find_array(names, LABELS)
    if labeled:
        y = y or "y"
    keys = [x] if y is None or labeled is False else [x, y]
    arrays = read_arrays(path, keys, flag=flag)
    return dict(zip(("x", "y"), (arrays[key] for key in keys), strict=False))


def find_labels_beside(path: Path) -> Path | None:
    """Return the npy with the labels of the inputs in `path`; None where there is none."""
    stem = path.stem
    for inputs, labels in _BESIDE:
        for old, new in ((inputs, labels), (inputs.upper(), labels), (inputs.title(), labels)):
            parts = stem.split("_")
            if old in parts:
                name = "_".join(new if part == old else part for part in parts)
                beside = path.with_name(f"{name}{path.suffix}")
                if beside.is_file():
                    return beside
    return None


def read_npy(path: Path, where: str) -> NDArray[Any]:
    """Return the array of an npy file.

    Raises:
        UsageError: it is damaged, of objects, or larger than memory.
    """
    with parsing(where, "npy file"), path.open("rb") as file:
        check_unpacked(where, path.stat().st_size)
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array
