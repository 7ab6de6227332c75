"""Labeled images to measure on: never to train, calibrate or choose with.

    FILE.npz         pixels, labels, perhaps class_names: `arrays.py` and `class_labels.py`
    FILE.tar, DIR    images and a labels.csv with the columns file, label
    DIR              a sub-folder for each class, by its name or number

An npz must have the model's height and width. Image files may have another size: the shorter side
is scaled, and the middle cut out; `note` then says so. Files are decoded batch by batch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.data.arrays import read_class_names, read_labeled, read_labeled_arrays
from dfqonnx.data.class_labels import KnownClasses, check_range, to_classes
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.image_files import FolderImages, ImageSource, TarImages, read_labels
from dfqonnx.errors import UsageError

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def check_kind(path: Path) -> str:
    """Return `folder`, `tar` or `npz`, by the name of what lies at `path`.

    Raises:
        UsageError: nothing is there, or it is of another kind.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        there = "is no plain file" if path.exists() else "no such file or folder"
        raise UsageError(f"--eval-data {path}: {there}")
    if path.name.lower().endswith(_TAR):
        return "tar"
    if path.suffix.lower() == ".npz":
        return "npz"
    raise UsageError(
        f"--eval-data {path}: unknown kind {path.suffix!r}; expected an npz (x uint8 NHWC, y), a"
        " folder or a .tar of images with labels.csv"
    )


def verify_eval_data(path: Path) -> None:
    """Read labeled images once from end to end, whatever their size and the model's classes.

    Raises:
        UsageError: something is damaged; the message names the file and the entry.
    """
    kind, any_size = check_kind(path), (1, 1, 1)
    if kind == "npz":
        _, labels = read_labeled_arrays(path, KnownClasses())
        read_class_names(path)
        _check_numbers(path, labels, None)
        return
    images, labels = _open_files(path, kind, any_size)
    _check_numbers(path, labels, None)
    images.check()


def _open_files(
    path: Path, kind: str, size: tuple[int, int, int]
) -> tuple[ImageSource, tuple[str, ...]]:
    if kind == "tar":
        return TarImages.open(path, size)
    files, labels = read_labels(path)
    return FolderImages(path, files, size), labels


def load_eval_data(
    path: Path, size: tuple[int, int, int], known: KnownClasses | int | None
) -> EvalData:
    """Open the npz file, tar file or folder at `path` for a model that takes (H, W, C) `size`.

    `known` are the model's classes, or their number; without one the range is not checked.

    Raises:
        UsageError: unreadable, of another form, of a wrong shape, or labels out of range.
    """
    kind = check_kind(path)
    known = known if isinstance(known, KnownClasses) else KnownClasses(known)
    images: ImageSource
    if kind == "npz":
        images, labels, names = read_labeled(path, size, known)
    else:
        images, texts = _open_files(path, kind, size)
        if not texts:
            raise UsageError(f"--eval-data {path}: it holds no images (0 labels)")
        labels, names = to_classes(texts, known, where=f"--eval-data {path}")
    _check_numbers(path, labels, known.count)
    return EvalData(
        source=path,
        count=len(labels),
        labels=labels,
        images=images,
        note=images.note(),
        class_names=names,
    )


def _check_numbers(
    path: Path, labels: NDArray[np.int64] | tuple[str, ...], classes: int | None
) -> None:
    if len(labels) == 0:
        raise UsageError(f"--eval-data {path}: it holds no images (0 labels)")
    if not isinstance(labels, tuple):
        check_range(labels, classes, where=f"--eval-data {path}", what="image")
