"""What a decoder of a detector's head is, and the table that decoders register in.

A head is asked whether a network's outputs are its own; it answers with the reason, or with None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.measuring import Fit
from dfqonnx.core.registry import Registry
from dfqonnx.evaluation.heads.detections import Detections

Arrays = Mapping[str, NDArray[Any]]
Frame = tuple[int, int]  # height and width of the model's input
CELLS = (8, 16, 32)  # pixels of a grid's cells, in the YOLO family


@dataclass(frozen=True, kw_only=True)
class Head:
    """One kind of detector head.

    Attributes:
        about: its outputs, in a few words.
        shown_score: from which on its authors' own programs show a box.
        fit: how images are brought to the model's size where the user does not say.
        recognize: why outputs are of this head, None where they are not.
        decode: outputs and frame -> what was found on each image.
        class_count: outputs -> how many classes the head has.
    """

    about: str
    shown_score: float
    fit: Fit
    recognize: Callable[[Arrays, Frame], str | None]
    decode: Callable[[Arrays, Frame], list[Detections]]
    class_count: Callable[[Arrays], int]


HEADS = Registry[Head]("head")


def grid_sizes(frame: Frame, cells: tuple[int, ...] = CELLS) -> list[tuple[int, int, int]]:
    """Return (rows, columns, cell) of each grid over the frame."""
    return [(-(-frame[0] // cell), -(-frame[1] // cell), cell) for cell in cells]


def all_probabilities(values: NDArray[Any]) -> bool:
    """Return whether all values lie between 0 and 1."""
    return bool(values.size and values.min() >= -1e-3 and values.max() <= 1 + 1e-3)


def rows_sum_to_one(values: NDArray[Any]) -> bool:
    """Return whether the last axis holds a softmax's probabilities."""
    return all_probabilities(values) and bool(np.allclose(values.sum(-1), 1, atol=1e-2))
