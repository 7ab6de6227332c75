"""What labels of evaluation data are, task by task. N inputs.

    classes   int64 (N,)      one class an input
    boxes     BoxLabels       boxes and classes of each image, in pixels of the model's input
    masks     MaskLabels      a class for every pixel, read batch by batch
    texts     TextLabels      the text of each line
    values    ValueLabels     the numbers (or the picture) that the output should be

Labels measure; they never train, calibrate or choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import UsageError

ClassLabels = NDArray[np.int64]
_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(each for each in range(1, 91) if each not in _GAPS)  # of the 80 classes, in order
NO_CLASS = -1  # of a pixel that is not to be counted
MOST_CLASSES = 100_000  # that boxes and masks may have; a number beyond is damage


@dataclass(frozen=True)
class ImageBoxes:
    """The true boxes of one image."""

    boxes: NDArray[np.float64]  # (n, 4) left, top, right, bottom, in pixels of the model's input
    classes: NDArray[np.int64]  # (n,) positions in the list of classes
    crowd: NDArray[np.bool_]  # (n,) groups, which neither count nor punish


@dataclass(frozen=True)
class BoxLabels:
    """The true boxes of every image; `category_ids` are the numbers that COCO gives the classes."""

    images: tuple[ImageBoxes, ...]
    category_ids: tuple[int, ...]  # in the order of the classes

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def to_head_classes(self, count: int) -> tuple[int, ...]:
        """Return the class of a head with `count` classes for each class of the labels.

        A head has the labels' classes in order; or a background before them; or the 80 classes of
        COCO in order; or COCO's own numbers, of which 1 to 90 are used, with gaps.

        Raises:
            UsageError: the head has another number of classes.
        """
        ids = self.category_ids
        used = max((int(c) for image in self.images for c in image.classes), default=0)
        if count == len(ids) or (ids == tuple(range(len(ids))) and used < count != len(ids) + 1):
            return tuple(range(len(ids)))
        if count == len(ids) + 1:
            return tuple(range(1, count))
        if count == len(COCO_IDS) and set(ids) <= set(COCO_IDS):
            return tuple(COCO_IDS.index(each) for each in ids)
        if count in {90, 91} and set(ids) <= set(COCO_IDS):
            return tuple(each - 91 + count for each in ids)
        raise UsageError(
            f"--eval-data: the labels have {len(ids)} classes (the largest number in use is"
            f" {used}), and the model's head has {count}; give labels of the model's own classes"
        )


class MaskLabels(Protocol):
    """Masks that are read by position."""

    def __len__(self) -> int:
        """Return the number of masks."""

    def read_masks(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return masks `start` to `stop`, (n, H, W); pixels that do not count are `NO_CLASS`."""


@dataclass(frozen=True)
class ArrayMasks:
    """Masks that are already in memory."""

    masks: NDArray[np.int64]  # (N, H, W)

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.masks)

    def read_masks(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return masks `start` to `stop`."""
        return self.masks[start:stop]


@dataclass(frozen=True)
class TextLabels:
    """The text of every line."""

    texts: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self.texts)


@dataclass(frozen=True)
class ValueLabels:
    """What the first output should be, inputs first."""

    values: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.values)


Labels = ClassLabels | BoxLabels | MaskLabels | TextLabels | ValueLabels
