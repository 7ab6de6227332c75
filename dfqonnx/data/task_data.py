"""Evaluation data of every layout: which one it is, and what it holds for a model.

    FILE.json                      COCO, or a plain labels.json, with images beside it
    FILE.csv                       columns file, text (or file, label), with images beside it
    FILE.npz, FILE.npy             images, or inputs that are none; see `input_arrays.py`
    FILE.wav                       sound, see `waves.py`
    FILE.parquet, a folder of them  images as Hugging Face stores them, see `parquet_images.py`
    FOLDER, FILE.tar               COCO's json; images/ and labels/*.txt (YOLO); images/ and masks/;
                                   labels.json; texts.csv; wav files; else classes, `labeled.py`

Where one set has boxes and masks, a detector gets the boxes, any other model the masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from dfqonnx.config.measuring import Fit
from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.box_files import BoxFile
from dfqonnx.data.class_labels import KnownClasses, check_range, to_classes
from dfqonnx.data.coco import is_coco, read_coco
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.file_tree import FLAG, FileTree, find_image, open_tree
from dfqonnx.data.fitted_images import FittedImages, MaskFiles
from dfqonnx.data.image_files import LABELS, parse_labels
from dfqonnx.data.input_arrays import holds_tensors, read_images, read_tensors
from dfqonnx.data.label_types import Labels, TextLabels
from dfqonnx.data.labeled import load_eval_data
from dfqonnx.data.parquet_images import SUFFIX, holds_parquet, open_parquet
from dfqonnx.data.plain_labels import is_plain, read_plain
from dfqonnx.data.text_lines import find_text_table, has_texts, read_texts
from dfqonnx.data.waves import open_wave_tree, read_waves
from dfqonnx.data.yolo import is_yolo, read_yolo
from dfqonnx.errors import UsageError

FILES = (".json", ".csv", ".npy", ".wav", SUFFIX)  # single files, beside npz and tar
MASK_FOLDERS = ("masks", "mask", "annotations", "labels", "SegmentationClass")
BOX_FIT: Fit = "letterbox"  # where no head says
_MOST_JSON = 8  # files that are looked into


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """What evaluation data are opened for.

    Attributes:
        inputs: how the model reads its input.
        classes: of its output; None does not check the range of class labels.
        known: the same with names, where somebody says them.
        fit: how images are brought to its size; None takes what is usual for the task.
        checks_files_only: whether the model is not known yet, and names of classes are passed over.
        detector_fit: asks for the usual fit of the model's detector head; None where it has none.
    """

    inputs: InputFormat
    classes: int | None = None
    known: KnownClasses | None = None
    fit: Fit | None = None
    detector_fit: Callable[[], Fit | None] = lambda: None
    checks_files_only: bool = False

    @property
    def known_classes(self) -> KnownClasses:
        """What is known of the model's classes."""
        return self.known or KnownClasses(self.classes)


def is_known_kind(path: Path) -> bool:
    """Return whether a file's name is of a kind that only this module reads."""
    return path.suffix.lower() in FILES


def open_task_data(path: Path, request: EvalRequest) -> EvalData:
    """Open the data at `path`.

    Raises:
        UsageError: unreadable, of no known layout, or not for this model; file and entry are named.
    """
    if not path.exists():
        raise UsageError(f"{FLAG} {path}: no such file or folder")
    inputs, suffix = request.inputs, path.suffix.lower()
    if suffix == ".wav":
        return _open_waves(path, open_wave_tree(path), request)
    if suffix in {".npy", ".npz"}:
        if not inputs.is_image or holds_tensors(path, inputs):
            return _open_tensors(path, request)
        return _open_pixels(path, request)
    if inputs.is_image and holds_parquet(path):
        data = open_parquet(path, inputs.image_size, request.known_classes)
        _check_classes(path, data.labels, request.classes, what="image")
        return data
    if suffix in {".json", ".csv"}:
        tree = open_tree(path.parent)
        found: EvalData | None = read_table(tree, path.name, request)
    else:
        tree = open_tree(path)
        if tree.named(".wav") and not tree.images():
            return _open_waves(path, tree, request)
        found = read_layout(tree, request) if inputs.is_image else None
    if not inputs.is_image:
        form = "x".join(map(str, inputs.shape))
        raise UsageError(
            f"{FLAG} {path}: the model's input {form} is no image; give an npz with x (and y), an"
            " npy, or wav files"
        )
    if found is None:
        found = load_eval_data(path, inputs.image_size, request.known_classes)
        return found if request.fit is None else _refit(found, tree, request.fit)
    return found


def _open_pixels(path: Path, request: EvalRequest) -> EvalData:
    images, labels, names = read_images(path, request.inputs.image_size, request.known_classes)
    _check_classes(path, labels, request.classes, what="image")
    return EvalData(
        source=path,
        count=len(images.pixels),
        labels=labels,
        images=images,
        note=images.note(),
        class_names=names,
    )


def _open_tensors(path: Path, request: EvalRequest) -> EvalData:
    tensors, labels = read_tensors(path, request.inputs.shape, request.known_classes)
    _check_classes(path, labels, request.classes)
    note = "x has the shape of the model's input and goes in as it is" * request.inputs.is_image
    return EvalData(
        source=path, count=len(tensors.values), labels=labels, images=tensors, note=note
    )


def _open_waves(path: Path, tree: FileTree, request: EvalRequest) -> EvalData:
    waves = read_waves(tree, request.inputs.shape, request.known_classes)
    _check_classes(path, waves.labels, request.classes)
    return EvalData(
        source=path,
        count=len(waves.tensors.values),
        labels=waves.labels,
        images=waves.tensors,
        note=waves.note,
    )


def read_table(tree: FileTree, name: str, request: EvalRequest) -> EvalData:
    """Return the data of a json or csv, with images beside it.

    Raises:
        UsageError: it is of another form, or damaged.
    """
    if name.lower().endswith(".csv"):
        if has_texts(tree, name):
            names, texts = read_texts(tree, name)
            return _make(tree, names, TextLabels(texts), request, fit="pad")
        return _make_classes(tree, name, request)
    content = tree.read_json(name)
    found = _read_json(tree, name, content, request)
    if found is None:
        raise UsageError(
            f"{tree.where(name)}: neither COCO (images, annotations, categories) nor a labels.json"
            " with images"
        )
    return found


def _make_classes(tree: FileTree, table: str, request: EvalRequest) -> EvalData:
    """Return images with one class each, by a table beside them."""
    where = tree.where(table)
    rows = parse_labels(tree.read(table), where.removeprefix(f"{FLAG} "))
    names = tuple(find_image(tree, name, near=table, where=where) for name, _ in rows)
    labels, class_names = np.zeros(len(rows), np.int64), request.known_classes.names
    if not request.checks_files_only:
        texts = [label for _, label in rows]
        labels, class_names = to_classes(texts, request.known_classes, where=where)
        _check_classes(tree.path / table, labels, request.classes, what="image")
    made = _make(tree, names, labels, request, fit="crop")
    return replace(made, class_names=class_names)


def read_layout(tree: FileTree, request: EvalRequest) -> EvalData | None:
    """Return the data of a folder or tar; None where it is of no layout of this module."""
    table = find_text_table(tree)
    if table is not None:
        names, texts = read_texts(tree, table)
        return _make(tree, names, TextLabels(texts), request, fit="pad")
    if tree.named(LABELS):
        return None  # one class an image
    for name in tree.named(".json")[:_MOST_JSON]:
        found = _read_json(tree, name, tree.read_json(name), request)
        if found is not None:
            return found
    if is_yolo(tree):
        return _make_boxes(tree, read_yolo(tree), request, request.detector_fit())
    pairs = find_masks(tree)
    return _make_masks(tree, pairs, request) if pairs else None


def _read_json(tree: FileTree, name: str, content: Any, request: EvalRequest) -> EvalData | None:
    if is_coco(content):
        return _make_boxes(tree, read_coco(tree, name, content), request, request.detector_fit())
    if not is_plain(content):
        return None
    plain = read_plain(tree, name, content)
    if plain.texts:
        return _make(tree, plain.names, TextLabels(plain.texts), request, fit="pad")
    detector = request.detector_fit() if plain.boxes is not None else None
    if plain.masks and detector is None:
        return _make_masks(tree, plain.masks, request)
    if plain.boxes is None:
        raise UsageError(f"{tree.where(name)}: its images have neither boxes, masks nor texts")
    return _make_boxes(tree, plain.boxes, request, detector)


def find_masks(tree: FileTree) -> dict[str, str]:
    """Return image -> mask of files with one stem in a folder of images and one of masks."""
    masks = {}
    for name in tree.images():
        parts = PurePosixPath(name).parts
        place = next((k for k, part in enumerate(parts[:-1]) if part in MASK_FOLDERS), None)
        if place is not None and name.lower().endswith((".png", ".bmp", ".tif", ".tiff", ".gif")):
            rest = PurePosixPath(*parts[:place], *parts[place + 1 :]).with_suffix("")
            masks[rest.as_posix()] = name
    found = {}
    for name in tree.images():
        parts = PurePosixPath(name).parts
        place = next((k for k, p in enumerate(parts[:-1]) if p in {"images", "JPEGImages"}), None)
        if place is not None:
            rest = PurePosixPath(*parts[:place], *parts[place + 1 :]).with_suffix("")
            if rest.as_posix() in masks:
                found[name] = masks[rest.as_posix()]
    return found


def _make_masks(tree: FileTree, pairs: Any, request: EvalRequest) -> EvalData:
    names = tuple(pairs)
    fit = request.fit or "stretch"
    frame = request.inputs.image_size[:2]
    labels = MaskFiles.open(tree, tuple(pairs[name] for name in names), frame, fit)
    return _make(tree, names, labels, request, fit=fit)


def _make_boxes(
    tree: FileTree, boxes: BoxFile, request: EvalRequest, detector: Fit | None
) -> EvalData:
    fit = request.fit or detector or BOX_FIT
    labels = boxes.fitted(request.inputs.image_size[:2], fit)
    made = _make(tree, boxes.names, labels, request, fit=fit)
    return EvalData(
        source=made.source,
        count=made.count,
        labels=labels,
        images=made.images,
        note=made.note,
        class_names=boxes.class_names,
    )


def _make(
    tree: FileTree, names: tuple[str, ...], labels: Labels, request: EvalRequest, *, fit: Fit
) -> EvalData:
    if not names:
        raise UsageError(f"{FLAG} {tree.path}: it holds no images")
    images = FittedImages(
        tree=tree,
        names=names,
        size=request.inputs.image_size,
        fit=request.fit or fit,
        zeros=isinstance(labels, TextLabels),
    )
    return EvalData(
        source=tree.path, count=len(names), labels=labels, images=images, note=images.note()
    )


def _refit(found: EvalData, tree: FileTree, fit: Fit) -> EvalData:
    """Return labeled images with another fit than the usual one of classifiers."""
    names: tuple[str, ...] = getattr(found.images, "names", ())
    size: tuple[int, int, int] = getattr(found.images, "size", (0, 0, 0))
    images = FittedImages(tree=tree, names=names, size=size, fit=fit)
    return EvalData(
        source=found.source,
        count=found.count,
        labels=found.labels,
        images=images,
        note=images.note(),
        class_names=found.class_names,
    )


def _check_classes(
    path: Path, labels: Labels | None, classes: int | None, *, what: str = "input"
) -> None:
    if isinstance(labels, np.ndarray):
        check_range(labels, classes, where=f"{FLAG} {path}", what=what)
