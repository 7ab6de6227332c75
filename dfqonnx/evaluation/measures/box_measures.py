"""Average precision of detectors, as COCO defines it, by pycocotools.

    AP at an IoU  = mean over 101 recalls of the best precision at that recall or a higher one,
                    with boxes of one class over all images ranked by score
    map50         = AP at IoU 0.5, mean over the classes that have a true box
    map           = mean of AP at IoU 0.5, 0.55 ... 0.95

`fidelity_map` and `fidelity_map50` take as true boxes what the float model itself finds with a
score from which on its authors' programs show a box (`Head.shown_score`): they need no labels, and
are 1 for a student that finds the same. Labels
measure whether boxes are right; fidelity measures whether they are the float model's.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dfqonnx.data.label_types import BoxLabels, ImageBoxes
from dfqonnx.evaluation.bootstrap import Floats as Draws
from dfqonnx.evaluation.bootstrap import redraw
from dfqonnx.evaluation.heads.choose_head import ChosenHead
from dfqonnx.evaluation.heads.detections import Detections, Floats
from dfqonnx.evaluation.heads.head import Frame
from dfqonnx.evaluation.measures.add_intervals import add_intervals
from dfqonnx.evaluation.measures.precision_draws import (
    RankedBoxes,
    precision_of_draws,
    rank_boxes,
)
from dfqonnx.evaluation.measures.side_pictures import SHOWN_INPUTS, Shown
from dfqonnx.evaluation.measures.task_measure import TaskMeasure, Truth
from dfqonnx.evaluation.outputs import Outputs

_MEANINGS = {
    "map50": "average precision of the boxes at IoU 0.5 (COCO)",
    "map": "average precision of the boxes over IoU 0.5 to 0.95 (COCO)",
}


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's two figures, 0 to 1; None where there is no true box.

    `ranked` has the matched boxes of every class, for images drawn anew.
    """

    map50: float | None
    map: float | None
    ranked: tuple[RankedBoxes, ...] = ()

    def draw(self, weights: Draws) -> Draws:
        """Return both figures (R, 2) of draws of the images (R, N); NaN without true boxes."""
        if not self.ranked:
            value = np.nan if self.map50 is None else self.map50
            return np.full((len(weights), 2), value)
        found = precision_of_draws(self.ranked, weights)
        return np.stack([found[:, 0], found.mean(1)], 1)


def average_precision(truth: Sequence[ImageBoxes], found: Sequence[Detections]) -> AveragePrecision:
    """Return the average precision of what was `found` on the images that `truth` is of."""
    total = sum(len(image.boxes) - int(image.crowd.sum()) for image in truth)
    if not total:
        return AveragePrecision(None, None)
    if not any(len(image.boxes) for image in found):
        return AveragePrecision(0.0, 0.0)
    kinds = sorted({int(c) for image in truth for c in image.classes})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        expected, results = _index(truth, kinds), _index_found(found, kinds)
        evaluation = COCOeval(expected, results, "bbox")
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, class)
    known = (precision > -1).all((0, 1))
    if not known.any():
        return AveragePrecision(None, None)
    precision = precision[:, :, known]
    ranked = rank_boxes(evaluation, len(truth))
    return AveragePrecision(float(precision[0].mean()), float(precision.mean()), ranked)


def _index(truth: Sequence[ImageBoxes], kinds: Sequence[int]) -> COCO:
    rows: list[dict[str, object]] = []
    for number, image in enumerate(truth):
        for box, label, crowd in zip(image.boxes, image.classes, image.crowd, strict=True):
            rows.append(_row(len(rows), number, box, int(label)) | {"iscrowd": int(crowd)})
    return _coco(rows, len(truth), kinds)


def _index_found(found: Sequence[Detections], kinds: Sequence[int]) -> COCO:
    rows: list[dict[str, object]] = []
    for number, image in enumerate(found):
        for box, label, score in zip(image.boxes, image.classes, image.scores, strict=True):
            if int(label) in kinds:
                rows.append(_row(len(rows), number, box, int(label)) | {"score": float(score)})
    return _coco(rows, len(found), kinds)


def _row(number: int, image: int, box: Floats, label: int) -> dict[str, object]:
    left, top, right, bottom = map(float, box)
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    return {
        "id": number + 1,
        "image_id": image + 1,
        "category_id": label,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
    }


def _coco(rows: list[dict[str, object]], images: int, kinds: Sequence[int]) -> COCO:
    index = COCO()
    content: Any = {
        "images": [{"id": number + 1} for number in range(images)],
        "categories": [{"id": kind, "name": str(kind)} for kind in kinds],
        "annotations": rows,
    }
    index.dataset = content
    index.createIndex()
    return index


class BoxTally:
    """Gathers detections of both models."""

    def __init__(self, chosen: ChosenHead, frame: Frame, labels: BoxLabels | None = None) -> None:
        self.chosen, self.frame, self.labels = chosen, frame, labels
        self.teacher: list[Detections] = []
        self.student: list[Detections] = []
        self.places: list[int] = []
        self._to_head: tuple[int, ...] | None = None

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Decode a batch of outputs; its first image has the place `start`."""
        head = self.chosen.head
        if self.labels is not None and self._to_head is None:
            self._to_head = self.labels.to_head_classes(head.class_count(teacher))
        first, second = head.decode(teacher, self.frame), head.decode(student, self.frame)
        self.teacher += first
        self.student += second
        self.places += range(start, start + len(first))

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return map50 and map against labels, and against the float model's own boxes."""
        found: list[TaskMeasure] = []
        if self.labels is not None:
            truth = [self._labeled(self.labels.images[place]) for place in self.places]
            both = (average_precision(truth, self.teacher), average_precision(truth, self.student))
            found += self._rows("labels", both, truth)
        shown = [as_truth(image, self.chosen.head.shown_score) for image in self.teacher]
        own = (None, average_precision(shown, self.student))
        found += self._rows("float model", own, shown)
        return tuple(found)

    def shown(self) -> tuple[list[Shown], list[Shown]]:
        """Return the boxes on the first images."""
        score = self.chosen.head.shown_score
        both = (self.teacher[:SHOWN_INPUTS], self.student[:SHOWN_INPUTS])
        teacher, student = ([image.above(score) for image in found] for found in both)
        return list(teacher), list(student)

    def _labeled(self, image: ImageBoxes) -> ImageBoxes:
        assert self._to_head is not None
        classes = np.array(self._to_head, np.int64)[image.classes]
        return ImageBoxes(image.boxes, classes, image.crowd)

    def _rows(
        self,
        truth: Truth,
        both: tuple[AveragePrecision | None, AveragePrecision],
        boxes_of: Sequence[ImageBoxes],
    ) -> list[TaskMeasure]:
        prefix = "fidelity_" if truth == "float model" else ""
        images, boxes = len(self.places), sum(len(each.boxes) for each in boxes_of)
        showing = sum(bool((~each.crowd).any()) for each in boxes_of)
        where = f"on {showing:,} of {images:,} images"
        whose = (
            f"{boxes:,} labeled boxes {where}"
            if truth == "labels"
            else f"what the float model finds with a score of {self.chosen.head.shown_score:g} or"
            f" more, {boxes:,} boxes {where}; 1 is the same boxes"
        )
        if not boxes:
            whose += ", so nothing can be said"
        teacher, student = both
        draws = redraw(images, student.draw, *([] if teacher is None else [teacher.draw]))
        return [
            add_intervals(
                TaskMeasure(
                    name=prefix + name,
                    task="boxes",
                    truth=truth,
                    teacher=None if teacher is None else getattr(teacher, name),
                    student=getattr(student, name),
                    n=images,
                    meaning=f"{_MEANINGS[name]} against {whose}",
                ),
                *(each[:, column] for each in draws),
                is_share=True,
                informative=showing,
            )
            for column, name in enumerate(("map50", "map"))
        ]


def as_truth(image: Detections, score: float) -> ImageBoxes:
    """Return what the float model shows of an image, from `score` on, as its true boxes."""
    shown = image.above(score)
    return ImageBoxes(shown.boxes, shown.classes, np.zeros(len(shown.boxes), np.bool_))
