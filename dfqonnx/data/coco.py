"""COCO's json: boxes of images by id.

    images        id, file_name, perhaps width and height
    annotations   image_id, category_id, bbox [left, top, width, height] in pixels, iscrowd
    categories    id, name

Images may be stored at another size than the json says, with the same proportions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dfqonnx.data.box_files import BoxFile, BoxRow, Floats, collect_boxes
from dfqonnx.data.file_tree import FileTree, find_image
from dfqonnx.data.fitted_images import image_size
from dfqonnx.data.json_entries import JsonEntry
from dfqonnx.errors import UsageError

SAME_SHAPE = 0.02  # by which proportions may differ from what the json says


def is_coco(content: object) -> bool:
    """Return whether a json's content has the parts of COCO's detection format."""
    return isinstance(content, Mapping) and {"images", "annotations", "categories"} <= set(content)


def read_coco(tree: FileTree, name: str, content: Mapping[str, Any]) -> BoxFile:
    """Read the json file `name`, whose content was loaded already.

    Raises:
        UsageError: an entry lacks a key, or names an image or a category that is not there.
    """
    whole = JsonEntry(content, tree.where(name))
    categories = {}
    for entry in whole.entries("categories"):
        label = entry.value["name"] if entry.has("name") else entry.require("id").value
        number = entry.require("id").integer()
        if number in categories:
            raise UsageError(f"{entry.where}: id {number} is there twice")
        categories[number] = str(label)
    ids = tuple(sorted(categories))
    rows = _read_annotations(whole, ids)
    names, sizes, images = [], [], []
    for entry in whole.entries("images"):
        file = entry.require("file_name").text()
        names.append(find_image(tree, file, near=name, where=entry.where))
        sizes.append(image_size(tree, names[-1]))
        boxes = rows[_identify(entry.require("id"))]
        images.append(collect_boxes(boxes, _stored_scale(entry, sizes[-1])))
    return BoxFile(
        names=tuple(names),
        sizes=tuple(sizes),
        images=tuple(images),
        category_ids=ids,
        class_names=tuple(categories[number] for number in ids),
    )


def _read_annotations(whole: JsonEntry, ids: tuple[int, ...]) -> dict[str, list[BoxRow]]:
    """Return the boxes of every image by its id, in the json's pixels."""
    places = {number: place for place, number in enumerate(ids)}
    rows: dict[str, list[BoxRow]] = {
        _identify(entry.require("id")): [] for entry in whole.entries("images")
    }
    for entry in whole.entries("annotations"):
        image = _identify(entry.require("image_id"))
        if image not in rows:
            raise UsageError(f"{entry.where}: image_id {image} is of no image")
        category = entry.require("category_id").integer()
        if category not in places:
            raise UsageError(f"{entry.where}: category_id {category} is of no category")
        box = entry.require("bbox").numbers(4)
        corners = np.concatenate([box[:2], box[:2] + box[2:]])
        is_crowd = entry.has("iscrowd") and bool(entry.value["iscrowd"])
        rows[image].append(BoxRow(corners, places[category], is_crowd))
    return rows


def _identify(entry: JsonEntry) -> str:
    """Return an image's id, a number or a text, as text."""
    if isinstance(entry.value, (list, dict)):
        raise entry.error("expected a number or a text")
    return str(entry.value)


def _stored_scale(entry: JsonEntry, size: tuple[int, int]) -> Floats:
    """Return the factors that bring the json's pixels to those of the stored image."""
    if not (entry.has("height") and entry.has("width")):
        return np.ones(4)
    said = entry.require("height").integer(), entry.require("width").integer()
    down, across = (stored / max(told, 1) for stored, told in zip(size, said, strict=True))
    if abs(down / across - 1) > SAME_SHAPE:
        raise UsageError(
            f"{entry.where} is {said[1]} x {said[0]} by the json, and its file {size[1]} x"
            f" {size[0]}, which are other proportions"
        )
    return np.array([across, down, across, down])
