"""Networks that read text: its lines, its direction, its place on a page.

Lines and pages are those of text_lines.tar; decoding and measures are those of `eval_ocr.py`, which
lies beside the data. The direction classifier sees every line upright and turned by 180 degrees.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image
from realdata.photographs import agreement, image_format
from realdata.task import (
    Array,
    Feed,
    Figures,
    Fold,
    Outputs,
    RealInputs,
    Task,
    find,
    first,
    load_measures,
    two_halves,
)

OCR = image_format("-1..1, BGR", 255.0, 0.5, 0.5, channels="BGR")
LINE, DIRECTION, PAGE = (48, 320), (48, 192), (480, 640)
LINES, CALIBRATION = 300, 100
SHARED = 0.3  # of the text map: what counts as text
OVERLAPS = (0.5, 0.75)


@cache
def read_texts(data: Path) -> tuple[Any, Any, dict[str, Image.Image]]:
    """Return the measures, the labels and the images of text_lines."""
    measures = load_measures(data, "eval_ocr.py")
    with tarfile.open(find(data / "text_lines.tar")) as archive:

        def content(name: str) -> bytes:
            handle = archive.extractfile(name)
            assert handle is not None, name
            return handle.read()

        labels = json.loads(content("labels.json"))
        images = {
            entry["image"]: Image.open(io.BytesIO(content(entry["image"]))).convert("RGB")
            for entry in (*labels["lines"], *labels["pages"])
        }
    return measures, labels, images


def read_lines(data: Path) -> RealInputs:
    """Return the lines, padded to 320 pixels."""
    measures, labels, images = read_texts(data)
    lines = labels["lines"]

    def feed(place: int) -> Feed:
        return np.asarray(measures.padded(images[lines[place]["image"]], LINE[1]))

    return RealInputs(count=len(lines), feed=feed, facts=[line["text"] for line in lines])


def read_directions(data: Path) -> RealInputs:
    """Return every line upright (even places) and turned (odd ones), 192 pixels wide."""
    measures, labels, images = read_texts(data)
    lines = labels["lines"]

    def feed(place: int) -> Feed:
        image = images[lines[place // 2]["image"]]
        image = image.rotate(180) if place % 2 else image
        if image.size[0] > DIRECTION[1]:
            image = image.resize(DIRECTION[::-1], Image.Resampling.BILINEAR)
        return np.asarray(measures.padded(image, DIRECTION[1]))

    return RealInputs(count=2 * len(lines), feed=feed)


def read_pages(data: Path) -> RealInputs:
    """Return the pages with the boxes of their texts."""
    measures, labels, images = read_texts(data)
    pages = labels["pages"]

    def feed(place: int) -> Feed:
        return np.asarray(measures.tensor(images[pages[place]["image"]])[None], np.float32)

    boxes = []
    for page in pages:  # the ink; the network's boxes are looser, as `eval_ocr.py` says
        ink = np.array([box[:4] for box in page["boxes"]], np.float64)
        boxes.append(ink + np.array([-1, -1, 1, 1]) * measures.PAD * (ink[:, 3:] - ink[:, 1:2]))
    return RealInputs(count=len(pages), feed=feed, facts=(measures, boxes))


def direction(real: RealInputs, places: Sequence[int], outputs: Outputs) -> Figures:
    """Return the share of right directions, in percent."""
    turned = np.array(places) % 2
    return {"top-1": float(100 * (first(outputs).argmax(1) == turned).mean())}


def characters_of(model: Path) -> list[str]:
    """Return the classes of the recognizer: blank, the characters of its metadata, space."""
    known = {each.key: each.value for each in onnx.load(find(model)).metadata_props}
    return ["", *known["character"].splitlines(), " "]


class LineReader:
    """From the recognizer's outputs to texts and figures."""

    def __init__(self, data: Path, model: Path) -> None:
        self._data, self._model = data, model

    def texts(self, outputs: Outputs) -> list[str]:
        """Return the text of every line."""
        measures, _, _ = read_texts(self._data)
        characters = _characters(self._model)
        return [measures.ctc(output[0][0], characters).strip() for output in outputs]

    def truth(self, real: RealInputs, places: Sequence[int], outputs: Outputs) -> Figures:
        """Return characters and whole lines that are right, in percent."""
        measures, _, _ = read_texts(self._data)
        right = measures.score(self.texts(outputs), [real.facts[place] for place in places])
        return {"characters": float(right[0]), "lines": float(right[1])}

    def fidelity(self, teacher: Outputs, student: Outputs) -> Figures:
        """Return characters and lines as the float model reads them, in percent."""
        measures, _, _ = read_texts(self._data)
        steps = first(teacher).argmax(-1) == first(student).argmax(-1)
        found = {"same steps": float(100 * steps.mean())}
        read = self.texts(teacher)
        if sum(map(len, read)) >= len(read):  # a text in most of them, by and large
            same = measures.score(self.texts(student), read)
            found |= {"same characters": float(same[0]), "same lines": float(same[1])}
        return found


@cache
def _characters(model: Path) -> list[str]:
    return characters_of(model)


def box_scores(measures: Any, found: Sequence[Array], known: Sequence[Array]) -> Figures:
    """Return F of text boxes, in percent: best pairs first, every box in one pair at most."""
    hits, boxes = np.zeros(len(OVERLAPS)), sum(map(len, found)) + sum(map(len, known))
    for mine, theirs in zip(found, known, strict=True):
        overlap = measures.iou(mine, theirs)
        while overlap.size and overlap.max() >= min(OVERLAPS):
            i, j = np.unravel_index(overlap.argmax(), overlap.shape)
            hits += overlap[i, j] >= np.array(OVERLAPS)
            overlap[i], overlap[:, j] = 0, 0
    values = 200 * hits / max(boxes, 1)
    return {f"F@{at}": float(value) for at, value in zip(OVERLAPS, values, strict=True)}


def page_truth(real: RealInputs, places: Sequence[int], outputs: Outputs) -> Figures:
    """Return F of the text boxes against those of the pages."""
    measures, boxes = real.facts
    found = [measures.db_boxes(output[0][0, 0].copy()) for output in outputs]
    return box_scores(measures, found, [boxes[place] for place in places])


def page_fidelity(data: Path) -> Callable[[Outputs, Outputs], Figures]:
    """Return the fidelity of the text detector: F against the float model's boxes, and mIoU."""

    def fidelity(teacher: Outputs, student: Outputs) -> Figures:
        measures, _, _ = read_texts(data)
        boxes = [
            [measures.db_boxes(output[0][0, 0].copy()) for output in outputs]
            for outputs in (student, teacher)
        ]
        scores = box_scores(measures, *boxes) if any(map(len, boxes[1])) else {}
        maps = [first(part) > SHARED for part in (teacher, student)]
        found = {f"fidelity {name}": value for name, value in scores.items()}
        if not maps[0].any() or maps[0].all():  # one class alone tells nothing
            return found
        both = (maps, [~each for each in maps])
        overlaps = [(t & s).sum() / (t | s).sum() for t, s in both]
        return found | {"mIoU": float(100 * np.mean(overlaps))}

    return fidelity


def text_tasks(data: Path, models: Path) -> tuple[Task, ...]:
    """Return the tasks whose inputs hold text."""
    lines = LineReader(data, models / "third_party/ppocr_rec.onnx")
    rest = tuple(range(CALIBRATION, LINES))
    return (
        Task(
            name="PP-OCR det", file="third_party/ppocr_det.onnx", kind="masks",
            reads="40 pages, each half calibrating for the other", judged="F@0.75",
            read=read_pages, fidelity=page_fidelity(data), truth=page_truth,
            folds=two_halves(40), preprocess=OCR, size=PAGE,
        ),
        Task(
            name="PP-OCR rec", file="third_party/ppocr_rec.onnx", kind="text",
            reads="text lines, 100 to calibrate, 200 to test", judged="characters",
            read=read_lines, fidelity=lines.fidelity, truth=lines.truth,
            folds=(Fold(tuple(range(CALIBRATION)), rest),), preprocess=OCR, size=LINE,
        ),
        Task(
            name="PP-OCR cls", file="third_party/ppocr_cls.onnx", kind="classes",
            reads="text lines upright and turned, 50 of both to calibrate, 400 to test",
            judged="top-1", read=read_directions, fidelity=agreement, truth=direction,
            folds=(Fold(tuple(range(CALIBRATION)), tuple(range(2 * CALIBRATION, 2 * LINES))),),
            preprocess=OCR, size=DIRECTION,
        ),
    )  # fmt: skip
