"""labels.json: a plain file of one's own for boxes, masks or texts.

    {"classes": ["cat", ...],
     "images": [{"image": "images/1.jpg",
                 "boxes": [[left, top, right, bottom, class], ...],   in pixels
                 "mask": "masks/1.png",
                 "text": "what it reads"}, ...]}

Each image has some of the three; `lines` is another word for `images`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dfqonnx.data.box_files import BoxFile, BoxRow, collect_boxes, count_classes
from dfqonnx.data.file_tree import FileTree, find_image
from dfqonnx.data.fitted_images import image_size
from dfqonnx.data.json_entries import JsonEntry
from dfqonnx.data.label_types import MOST_CLASSES


@dataclass(frozen=True, kw_only=True)
class PlainLabels:
    """What a labels.json says; `texts` is empty where some image has none."""

    names: tuple[str, ...]
    boxes: BoxFile | None = None
    masks: Mapping[str, str] = field(default_factory=dict)  # image -> mask, where there is one
    texts: tuple[str, ...] = ()


def is_plain(content: object) -> bool:
    """Return whether a json's content is of this form."""
    if not isinstance(content, Mapping):
        return False
    listed = content.get("images", content.get("lines"))
    first = listed[0] if isinstance(listed, list) and listed else None
    return isinstance(first, Mapping) and "image" in first


def read_plain(tree: FileTree, name: str, content: Mapping[str, Any]) -> PlainLabels:
    """Read the file `name`, whose content was loaded already.

    Raises:
        UsageError: an image is not there, or a box cannot be read; the entry is named.
    """
    whole = JsonEntry(content, tree.where(name))
    entries = whole.entries("images") or whole.entries("lines")
    names = tuple(
        find_image(tree, entry.require("image").text(), near=name, where=entry.where)
        for entry in entries
    )
    masks = {
        image: find_image(tree, entry.require("mask").text(), near=name, where=entry.where)
        for image, entry in zip(names, entries, strict=True)
        if entry.has("mask")
    }
    has_texts = all(entry.has("text") for entry in entries)
    has_boxes = any(entry.has("boxes") for entry in entries)
    class_names = tuple(str(each.value) for each in whole.entries("classes"))
    return PlainLabels(
        names=names,
        boxes=_read_boxes(tree, names, entries, class_names) if has_boxes else None,
        masks=masks,
        texts=tuple(entry.require("text").text() for entry in entries) if has_texts else (),
    )


def _read_boxes(
    tree: FileTree,
    names: tuple[str, ...],
    entries: list[JsonEntry],
    class_names: tuple[str, ...],
) -> BoxFile:
    images = []
    for entry in entries:
        rows = []
        for each in entry.entries("boxes"):
            values = each.numbers(5)
            label = JsonEntry(float(values[4]), f"{each.where}: class").integer(below=MOST_CLASSES)
            rows.append(BoxRow(values[:4], label))
        images.append(collect_boxes(rows, np.ones(4)))
    return BoxFile(
        names=names,
        sizes=tuple(image_size(tree, image) for image in names),
        images=tuple(images),
        category_ids=tuple(range(count_classes(images, class_names))),
        class_names=class_names,
    )
