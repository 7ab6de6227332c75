"""Average precision of images drawn anew, from the matches that COCO's evaluation made once.

Of one class, with its boxes ranked by score: image i is drawn w_i times, so a box of it counts w_i
times, and so does every true box. With T_d and A_d the counts of matched and of all boxes down to
rank d, and P the count of true ones,

    precision_d = T_d / A_d             its envelope: the best at rank d or below
    AP          = mean over COCO's 101 recalls of the envelope at the first rank whose T_d / P
                  reaches the recall

The first rank that reaches a recall is a matched one, where the envelope is largest too, so only
those are looked at. Boxes that COCO ignores (of crowds) count nowhere. The mean over classes is
over those that have a true box in the draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.bootstrap import Floats


@dataclass(frozen=True, kw_only=True)
class RankedBoxes:
    """What was found of one class, the highest score first: D boxes on I images, T overlaps."""

    images: NDArray[np.int64]  # (D,)
    matched: NDArray[np.bool_]  # (T, D)
    ignored: NDArray[np.bool_]  # (T, D)
    true: NDArray[np.int64]  # (I,) true boxes on every image, ignored ones left out
    recalls: Floats  # rising


def rank_boxes(evaluation: Any, images: int) -> tuple[RankedBoxes, ...]:
    """Return what a COCOeval with one range of areas matched, class by class."""
    found, overlaps = [], len(evaluation.params.iouThrs)
    for first in range(0, len(evaluation.evalImgs), images):
        known = [(k, e) for k, e in enumerate(evaluation.evalImgs[first : first + images]) if e]
        true = np.zeros(images, np.int64)
        for place, each in known:
            true[place] = np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)
        scores = np.concatenate([np.zeros(0), *(e["dtScores"] for _, e in known)])
        order = np.argsort(-scores, kind="mergesort")
        empty = np.zeros((overlaps, 0), np.bool_)
        matched, ignored = (
            np.concatenate([empty, *(np.asarray(e[key]) > 0 for _, e in known)], 1)[:, order]
            for key in ("dtMatches", "dtIgnore")
        )
        places = [np.full(len(e["dtScores"]), k, np.int64) for k, e in known]
        ranked = np.concatenate([np.zeros(0, np.int64), *places])[order]
        recalls = np.asarray(evaluation.params.recThrs)
        found.append(
            RankedBoxes(images=ranked, matched=matched, ignored=ignored, true=true, recalls=recalls)
        )
    return tuple(found)


def precision_of_draws(ranked: Sequence[RankedBoxes], weights: Floats) -> Floats:
    """Return the average precision (R, T) of draws (R, I); NaN where none has a true box."""
    overlaps = max((len(each.matched) for each in ranked), default=1)
    total = np.zeros((len(weights), overlaps))
    classes = np.zeros((len(weights), 1))
    for each in ranked:
        true = weights @ each.true
        total += np.nan_to_num(_precision_of_class(each, weights, true))
        classes[:, 0] += true > 0
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(classes > 0, classes, np.nan))


def _precision_of_class(ranked: RankedBoxes, weights: Floats, true: Floats) -> Floats:
    """Return the average precision (R, T) of one class; 0 where it has no true box."""
    drawn = weights[:, ranked.images]  # (R, D)
    counts = np.cumsum(drawn, 1)
    known = np.where(true > 0, true, 1)[:, None]
    found = np.zeros((len(weights), len(ranked.matched)))
    for overlap, (matched, ignored) in enumerate(zip(ranked.matched, ranked.ignored, strict=True)):
        if ignored.any():
            counts = np.cumsum(drawn * ~ignored, 1)
        places = np.flatnonzero(matched & ~ignored)
        if not len(places):
            continue
        hits = np.cumsum(drawn[:, places], 1)
        precision = hits / np.maximum(counts[:, places], 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        reached = np.searchsorted(ranked.recalls, hits / known, side="right")
        reached[hits == 0] = 0
        steps = np.diff(reached, axis=1, prepend=0)
        found[:, overlap] = (envelope * steps).sum(1) / len(ranked.recalls)
    found[true == 0] = 0
    return found
