"""Heads that give scores and boxes apart, already decoded in the graph. N images, A places.

    ultraface   scores (N, A, 2) background and face, boxes (N, A, 4) corners relative to the frame
    ssd         scores (N, A, K) that sum to one, of which class 0 is the background and is never
                reported; boxes (N, A, 4) corners, relative or in pixels
    ssd-sigmoid the same, with a probability of its own for every class and no background

The boxes' offsets to anchors cannot be decoded, because the anchors are not in the file. Boxes are
taken as relative where none reaches beyond twice the frame.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.heads.detections import Detections, best_class, suppress
from dfqonnx.evaluation.heads.head import (
    HEADS,
    Arrays,
    Frame,
    Head,
    all_probabilities,
    rows_sum_to_one,
)

_MOST_RELATIVE = 2.0
_PROPER = 0.98  # share of boxes whose right and bottom are not before left and top


def _parts(outputs: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores (N, A, K) and boxes (N, A, 4)."""
    found = [(n.lower(), v) for n, v in outputs.items() if v.ndim == 3 and v.dtype.kind == "f"]
    if len(found) != 2 or found[0][1].shape[:2] != found[1][1].shape[:2]:
        raise ValueError("not two outputs for the same places")
    boxes = [k for k, (_, v) in enumerate(found) if v.shape[2] == 4]
    if len(boxes) == 2:
        boxes = [k for k in boxes if any(w in found[k][0] for w in ("box", "loc", "bbox"))]
    if len(boxes) != 1:
        raise ValueError("no output of four numbers a place")
    place = boxes[0]
    return found[1 - place][1].astype(np.float64), found[place][1].astype(np.float64)


def _are_corners(boxes: NDArray[np.float64]) -> bool:
    proper = (boxes[..., 2:] >= boxes[..., :2]).all(-1)
    return bool(proper.size and proper.mean() >= _PROPER)


def _recognize(outputs: Arrays, frame: Frame, *, kind: str) -> str | None:
    if len(outputs) != 2:
        return None
    try:
        scores, boxes = _parts(outputs)
    except ValueError:
        return None
    if not all_probabilities(scores) or not _are_corners(boxes):
        return None
    found = "ssd-sigmoid"
    if scores.shape[2] > 1 and rows_sum_to_one(scores):
        found = "ultraface" if scores.shape[2] == 2 else "ssd"
    if found != kind:
        return None
    shapes = " and ".join("x".join(map(str, v.shape[1:])) for v in (scores, boxes))
    return f"outputs {shapes} hold probabilities and corners for the same places"


def _decode(outputs: Arrays, frame: Frame, *, first: int) -> list[Detections]:
    """Decode classes from `first` on, because those before are no objects."""
    scores, boxes = _parts(outputs)
    height, width = frame
    is_relative = bool(np.abs(boxes).max(initial=0) <= _MOST_RELATIVE)
    unit = np.array([width, height, width, height], np.float64) if is_relative else 1.0
    found = []
    for rows, corners in zip(scores, boxes, strict=True):
        best, classes = best_class(rows[:, first:])
        found.append(suppress(corners * unit, best, classes + first))
    return found


def _class_count(outputs: Arrays) -> int:
    return int(_parts(outputs)[0].shape[2])


for _name, _about, _first, _score in (
    ("ultraface", "scores (N, A, 2), background first, and corners (N, A, 4)", 1, 0.7),
    ("ssd", "scores (N, A, K), background first, and corners (N, A, 4)", 1, 0.5),
    ("ssd-sigmoid", "scores (N, A, K) without background, and corners (N, A, 4)", 0, 0.5),
):
    HEADS.add(_name)(
        Head(
            about=_about,
            shown_score=_score,
            fit="stretch",
            recognize=partial(_recognize, kind=_name),
            decode=partial(_decode, first=_first),
            class_count=_class_count,
        )
    )
