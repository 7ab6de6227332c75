"""Labeled boxes in pixels of the stored images, whatever file they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.measuring import Fit
from dfqonnx.data.fit import fit_boxes
from dfqonnx.data.label_types import BoxLabels, ImageBoxes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BoxRow:
    """One labeled box."""

    corners: Floats  # left, top, right, bottom
    label: int  # the class's place in the list of classes
    crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class BoxFile:
    """The boxes of all images; `category_ids` are COCO's numbers of the classes, in order."""

    names: tuple[str, ...]  # of the images
    sizes: tuple[tuple[int, int], ...]  # (height, width) of each
    images: tuple[ImageBoxes, ...]
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...] = ()

    def fitted(self, frame: tuple[int, int], fit: Fit) -> BoxLabels:
        """Return the boxes in pixels of a model's input."""
        found = [
            ImageBoxes(fit_boxes(each.boxes, size, frame, fit), each.classes, each.crowd)
            for each, size in zip(self.images, self.sizes, strict=True)
        ]
        return BoxLabels(tuple(found), self.category_ids)


def collect_boxes(rows: Sequence[BoxRow], unit: Floats) -> ImageBoxes:
    """Return the boxes of one image, their corners times `unit` (4,)."""
    corners = np.array([row.corners for row in rows], np.float64).reshape(-1, 4)
    return ImageBoxes(
        corners * unit,
        np.array([row.label for row in rows], np.int64),
        np.array([row.crowd for row in rows], np.bool_),
    )


def count_classes(images: Sequence[ImageBoxes], class_names: Sequence[str]) -> int:
    """Return how many classes there are by their names and by the numbers in use."""
    most = max((int(label) for image in images for label in image.classes), default=0)
    return max(len(class_names), most + 1)
