"""YOLO's txt files: images/NAME.jpg and labels/NAME.txt, with folders above or below.

A row is class, center x, center y, width, height, as shares of the image. More numbers are a
polygon, whose bounding box is taken. An image without a txt has no boxes. Names of the classes are
the lines of classes.txt, or `names` of a data.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from dfqonnx.config.yaml_file import read_mapping
from dfqonnx.data.box_files import BoxFile, BoxRow, collect_boxes, count_classes
from dfqonnx.data.file_tree import FLAG, FileTree
from dfqonnx.data.fitted_images import image_size
from dfqonnx.data.label_types import MOST_CLASSES
from dfqonnx.errors import UsageError
from dfqonnx.foreign_text import printable


def is_yolo(tree: FileTree) -> bool:
    """Return whether some image of a folder `images` has a txt in the folder `labels`."""
    known = set(tree.names)
    return any(_text_of(name) in known for name in tree.images())


def read_yolo(tree: FileTree) -> BoxFile:
    """Read all images of folders `images`.

    Raises:
        UsageError: a row cannot be read; file and line are named.
    """
    known = set(tree.names)
    names = tuple(name for name in tree.images() if _text_of(name))
    sizes = tuple(image_size(tree, name) for name in names)
    images = []
    for name, (height, width) in zip(names, sizes, strict=True):
        text = _text_of(name)
        unit = np.array([width, height, width, height], np.float64)
        images.append(collect_boxes(_read_rows(tree, text) if text in known else [], unit))
    class_names = _read_names(tree)
    return BoxFile(
        names=names,
        sizes=sizes,
        images=tuple(images),
        category_ids=tuple(range(count_classes(images, class_names))),
        class_names=class_names,
    )


def _text_of(image: str) -> str:
    """Return the path of the txt that belongs to an image; empty outside a folder `images`."""
    parts = list(PurePosixPath(image).parts)
    places = [k for k, part in enumerate(parts[:-1]) if part == "images"]
    if not places:
        return ""
    parts[places[-1]] = "labels"
    return PurePosixPath(*parts).with_suffix(".txt").as_posix()


def _read_rows(tree: FileTree, name: str) -> list[BoxRow]:
    """Return the boxes of a txt, their corners as shares of the image."""
    lines = enumerate(tree.read_text(name).splitlines(), 1)
    return [
        _read_row(line, f"{tree.where(name)}, line {number}")
        for number, line in lines
        if line.strip()
    ]


def _read_row(line: str, where: str) -> BoxRow:
    try:
        values = np.array([float(word) for word in line.split()], np.float64)
    except ValueError:
        raise UsageError(f"{where}: {printable(line[:60])!r} is no row of numbers") from None
    is_polygon = len(values) >= 7 and len(values) % 2 == 1
    if (len(values) != 5 and not is_polygon) or not np.isfinite(values).all():
        raise UsageError(
            f"{where}: {len(values)} numbers; expected class, center x, center y, width, height"
        )
    label = float(values[0])
    if not 0 <= label < MOST_CLASSES or label != int(label):
        raise UsageError(
            f"{where}: class {label:g} is no whole number from 0 to {MOST_CLASSES - 1:,}"
        )
    if is_polygon:
        points = values[1:].reshape(-1, 2)
        return BoxRow(np.concatenate([points.min(0), points.max(0)]), int(label))
    center, half = values[1:3], values[3:] / 2
    return BoxRow(np.concatenate([center - half, center + half]), int(label))


def _read_names(tree: FileTree) -> tuple[str, ...]:
    for name in (*tree.named("classes.txt"), *tree.named("obj.names")):
        return tuple(line.strip() for line in tree.read_text(name).splitlines() if line.strip())
    if tree.contents is not None or "data.yaml" not in tree.names:
        return ()
    found = read_mapping(tree.path / "data.yaml", what=FLAG).get("names", ())
    if isinstance(found, Mapping) and set(found) == set(range(len(found))):
        found = [found[place] for place in range(len(found))]
    is_list = isinstance(found, Sequence) and not isinstance(found, str)
    return tuple(map(str, found)) if is_list else ()
