"""Every head finds the boxes that were encoded by the inverse of its equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from dfqonnx.errors import InternalError, UsageError
from dfqonnx.evaluation.heads.choose_head import ORDER, find_head, require_head
from dfqonnx.evaluation.heads.detections import intersection_over_union, suppress
from dfqonnx.evaluation.heads.head import HEADS

FRAME = (64, 96)  # height, width
KINDS = 7
BOXES = np.array([[10.0, 12.0, 34.0, 40.0], [50.0, 8.0, 90.0, 60.0]])  # corners
CLASSES = np.array([2, 5])
SCORES = np.array([0.9, 0.6])
Outputs = dict[str, NDArray[np.float32]]


def centers() -> NDArray[np.float64]:
    return np.column_stack([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]])


def cells(sizes: tuple[int, ...] = (8, 16, 32)) -> list[tuple[int, int, int]]:
    """(x, y, pixels) of every cell, row by row."""
    height, width = FRAME
    return [
        (x, y, size) for size in sizes for y in range(height // size) for x in range(width // size)
    ]


def yolov5() -> Outputs:
    out = np.zeros((1, 3 * len(cells()), 5 + KINDS), np.float32)
    for k, (box, label) in enumerate(zip(centers(), CLASSES, strict=True)):
        out[0, 5 + k, :5] = [*box, 0.8]
        out[0, 5 + k, 5 + label] = SCORES[k] / 0.8 if k else 1.0
    out[0, 5, 4] = SCORES[0]
    return {"output0": out}


def yolov8() -> Outputs:
    out = np.zeros((1, 4 + KINDS, len(cells())), np.float32)
    for k, (box, label) in enumerate(zip(centers(), CLASSES, strict=True)):
        out[0, :4, 11 + k] = box
        out[0, 4 + label, 11 + k] = SCORES[k]
    return {"output0": out}


def yolox() -> Outputs:
    out = np.zeros((1, len(cells()), 5 + KINDS), np.float32)
    for k, (box, label) in enumerate(zip(centers(), CLASSES, strict=True)):
        place = 20 + k
        x, y, size = cells()[place]
        out[0, place, :2] = box[:2] / size - [x, y]
        out[0, place, 2:4] = np.log(box[2:] / size)
        out[0, place, 4] = SCORES[k]
        out[0, place, 5 + label] = 1.0
    return {"output": out}


def yolox_decoded() -> Outputs:
    out = np.zeros((1, len(cells()), 5 + KINDS), np.float32)
    for k, (x, y, size) in enumerate(cells()):
        out[0, k, :4] = (x + 0.5) * size, (y + 0.5) * size, size, size
    for k, (box, label) in enumerate(zip(centers(), CLASSES, strict=True)):
        out[0, 7 + k, :5] = [*box, SCORES[k]]
        out[0, 7 + k, 5 + label] = 1.0
    return {"output": out}


def end_to_end() -> Outputs:
    out = np.zeros((1, 20, 6), np.float32)
    out[0, :2] = np.column_stack([BOXES, SCORES, CLASSES])
    return {"output0": out}


def fastestdet() -> Outputs:
    rows, columns = FRAME[0] // 16, FRAME[1] // 16
    out = np.zeros((1, 5 + KINDS, rows, columns), np.float32)
    out[0, 5] = 1.0  # the classes' probabilities sum to one everywhere
    for k, (box, label) in enumerate(zip(centers(), CLASSES, strict=True)):
        x, y = int(box[0] // 16), int(box[1] // 16)
        out[0, 1, y, x] = np.arctanh(box[0] / FRAME[1] * columns - x)
        out[0, 2, y, x] = np.arctanh(box[1] / FRAME[0] * rows - y)
        share = box[2:] / [FRAME[1], FRAME[0]]
        out[0, 3:5, y, x] = np.log(share / (1 - share))
        out[0, 5:, y, x] = 0
        out[0, 5 + label, y, x] = 1.0
        out[0, 0, y, x] = SCORES[k] ** (1 / 0.6)
    return {"758": out}


def ssd(relative: bool, background: bool) -> Outputs:
    scores = np.zeros((1, 30, KINDS), np.float32)
    scores[0, :, 0] = float(background)
    boxes = np.zeros((1, 30, 4), np.float32)
    unit = [FRAME[1], FRAME[0], FRAME[1], FRAME[0]] if relative else [1.0] * 4
    boxes[0, 3:5] = BOXES / unit
    for k, label in enumerate(CLASSES):
        scores[0, 3 + k, 0] = 1 - SCORES[k] if background else 0
        scores[0, 3 + k, label] = SCORES[k]
    return {"scores": scores, "boxes": boxes}


def centernet() -> Outputs:
    rows, columns = FRAME[0] // 4, FRAME[1] // 4
    heat = np.zeros((1, KINDS, rows, columns), np.float32)
    size, offset = (np.zeros((1, 2, rows, columns), np.float32) for _ in range(2))
    for k, (box, label) in enumerate(zip(centers(), CLASSES, strict=True)):
        x, y = int(box[0] // 4), int(box[1] // 4)
        heat[0, label, y, x] = SCORES[k]
        heat[0, label, y, x + 1] = SCORES[k] / 2  # a neighbor, which is no peak
        offset[0, :, y, x] = box[:2] / 4 - [x, y]
        size[0, :, y, x] = box[2:] / 4
    return {"reg": offset, "hm": heat, "wh": size}


HEADS_AND_OUTPUTS: dict[str, Callable[[], Outputs]] = {
    "yolov5": yolov5,
    "yolov8": yolov8,
    "yolox": yolox,
    "yolox-decoded": yolox_decoded,
    "end-to-end": end_to_end,
    "fastestdet": fastestdet,
    "ssd": lambda: ssd(True, True),
    "ssd-sigmoid": lambda: ssd(False, False),
    "centernet": centernet,
}


@pytest.mark.parametrize("name", HEADS_AND_OUTPUTS)
def test_a_head_is_found_by_shape_and_gives_back_what_was_encoded(name: str) -> None:
    outputs = HEADS_AND_OUTPUTS[name]()
    chosen = find_head(outputs, FRAME)
    assert chosen is not None
    assert chosen.name == name
    (found,) = chosen.head.decode(outputs, FRAME)
    np.testing.assert_allclose(found.boxes[:2], BOXES, atol=1e-3)  # float32 of up to 96
    np.testing.assert_allclose(found.scores[:2], SCORES, atol=1e-6)
    np.testing.assert_array_equal(found.classes[:2], CLASSES)
    assert chosen.head.class_count(outputs) >= CLASSES.max() + 1


def test_weights_of_masks_are_no_classes() -> None:
    boxes = yolov8()["output0"]
    weights = np.random.default_rng(0).normal(size=(1, 32, boxes.shape[2])).astype(np.float32)
    planes = np.zeros((1, 32, 16, 24), np.float32)
    outputs = {"output0": np.concatenate([boxes, weights], 1), "output1": planes}
    chosen = find_head(outputs, FRAME)
    assert chosen is not None
    assert chosen.name == "yolov8"
    assert chosen.head.class_count(outputs) == KINDS
    (found,) = chosen.head.decode(outputs, FRAME)
    np.testing.assert_allclose(found.boxes[:2], BOXES, atol=1e-3)
    np.testing.assert_array_equal(found.classes[:2], CLASSES)


def test_the_background_of_a_face_detector_is_never_reported() -> None:
    scores = np.array([[[0.95, 0.05], [0.2, 0.8]]], np.float32)
    boxes = np.array([[[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.75, 1.0]]], np.float32)
    chosen = find_head({"scores": scores, "boxes": boxes}, FRAME)
    assert chosen is not None
    assert chosen.name == "ultraface"
    (found,) = chosen.head.decode({"scores": scores, "boxes": boxes}, FRAME)
    np.testing.assert_allclose(found.scores, [0.8, 0.05])
    np.testing.assert_allclose(found.boxes[0], [48, 32, 72, 64])
    assert set(found.classes) == {1}


def test_places_are_counted_as_the_published_exports_have_them() -> None:
    rng = np.random.default_rng(0)
    v5 = {"output0": rng.uniform(0, 1, (1, 25200, 85)).astype(np.float32)}
    v8 = {"output0": rng.uniform(0, 1, (1, 84, 8400)).astype(np.float32)}
    for outputs, name in ((v5, "yolov5"), (v8, "yolov8")):
        chosen = find_head(outputs, (640, 640))
        assert chosen is not None
        assert chosen.name == name


@pytest.mark.parametrize(
    "outputs",
    [
        {"features": np.random.default_rng(0).normal(size=(2, 85, 4, 6))},
        {"mask": np.full((2, 21, 64, 96), 1 / 21)},
        {"logits": np.zeros((2, 10))},
        {"a": np.zeros((2, 30, 4)), "b": np.zeros((2, 30, 4))},
        {"text": np.full((2, 40, 97), 1 / 97)},
    ],
)
def test_other_outputs_are_of_no_head(outputs: dict[str, NDArray[np.float64]]) -> None:
    assert find_head(outputs, FRAME) is None


def test_a_head_asked_for_must_fit_and_an_unknown_one_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"^head yolov8: .*logits 2x10.* metric"):
        require_head("yolov8", {"logits": np.zeros((2, 10))}, FRAME)
    with pytest.raises(UsageError, match="unknown head 'yolov7'; did you mean 'yolov"):
        require_head("yolov7", {"logits": np.zeros((2, 10))}, FRAME)


def test_no_head_is_registered_twice_and_every_one_has_a_place_in_the_order() -> None:
    assert set(ORDER) == set(HEADS)
    with pytest.raises(InternalError, match="twice"):
        HEADS.add("yolov5")(HEADS["yolov5"])


def test_suppression_keeps_the_best_of_a_class_and_leaves_other_classes_alone() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [20, 20, 30, 30.0]])
    found = suppress(boxes, np.array([0.5, 0.9, 0.7, 0.0005]), np.array([0, 0, 1, 0]))
    np.testing.assert_array_equal(found.scores, [0.9, 0.7])
    np.testing.assert_array_equal(found.classes, [0, 1])


def test_overlap_of_boxes_against_areas_by_hand() -> None:
    first = np.array([[0, 0, 4, 4], [10, 10, 12, 12.0]])
    second = np.array([[2, 2, 6, 6], [0, 0, 4, 4.0]])
    np.testing.assert_allclose(intersection_over_union(first, second), [[4 / 28, 1.0], [0.0, 0.0]])
