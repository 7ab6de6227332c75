"""Boxes that a detector finds, and the suppression of those that overlap.

    IoU(a, b) = area(a and b) / area(a or b)

Non-maximum suppression, class by class: the best box is kept, every other one that overlaps it by
more than 0.45 is dropped, and so on with what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NMS_IOU = 0.45
LEAST_SCORE = 0.001  # of boxes that average precision ranks
MOST_CANDIDATES = 1000  # of an image, the best by score; COCO counts a hundred of each class


@dataclass(frozen=True)
class Detections:
    """What was found on one image, the best first."""

    boxes: Floats  # (n, 4) left, top, right, bottom, in pixels of the model's input
    scores: Floats  # (n,)
    classes: NDArray[np.int64]  # (n,)

    def above(self, score: float) -> Detections:
        """Return those with at least this score."""
        keep = self.scores >= score
        return Detections(self.boxes[keep], self.scores[keep], self.classes[keep])


def intersection_over_union(first: Floats, second: Floats) -> Floats:
    """Return the IoU of every box (n, 4) with every other (m, 4), as (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(1) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None] - inside
    return np.asarray(inside / np.maximum(union, 1e-12), np.float64)


def suppress(boxes: Floats, scores: Floats, classes: NDArray[np.int64]) -> Detections:
    """Return what non-maximum suppression leaves of boxes (n, 4) with scores and classes (n,)."""
    valid = np.flatnonzero((scores > LEAST_SCORE) & np.isfinite(boxes).all(1))
    order = valid[np.argsort(-scores[valid], kind="stable")][:MOST_CANDIDATES]
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    hides = intersection_over_union(boxes, boxes) > NMS_IOU
    hides &= classes[:, None] == classes[None]
    kept = np.ones(len(order), np.bool_)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= ~hides[place, place + 1 :]
    return Detections(boxes[kept], scores[kept], classes[kept])


def from_centers(values: Floats) -> Floats:
    """Return corners of boxes (..., 4) given as center x, center y, width, height."""
    center, half = values[..., :2], values[..., 2:4] / 2
    return np.concatenate([center - half, center + half], -1)


def best_class(scores: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return the largest entry of every row (n, K) and its position."""
    chosen = scores.argmax(1)
    return scores[np.arange(len(scores)), chosen], chosen.astype(np.int64)
