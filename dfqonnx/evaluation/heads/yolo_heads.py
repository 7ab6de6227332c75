"""The YOLO family. N images, A places, K classes; values in pixels of the model's input.

    yolov5          (N, A, 5 + K)  cx, cy, w, h, objectness, classes; 3 anchors on each cell of the
                                   grids of 8, 16 and 32 pixels (and 64); score = objectness class
    yolov8          (N, 4 + K, A)  cx, cy, w, h, classes (also YOLO11); one place a cell
                                   both may end with the weights of masks, which are left out
    yolox           (N, A, 5 + K)  as yolov5 with one place a cell, offsets not yet decoded:
                                   center = (offset + cell's index) cell, size = exp(value) cell
    yolox-decoded   (N, A, 5 + K)  the same, decoded in the graph
    end-to-end      (N, n, 6)      left, top, right, bottom, score, class (YOLOv10, YOLO26)

Sources: the export code and papers of YOLOv5, YOLOv8 (Ultralytics), YOLOX (Ge et al. 2021), YOLOv10
(Wang et al. 2024).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.heads.detections import (
    LEAST_SCORE,
    Detections,
    best_class,
    from_centers,
    suppress,
)
from dfqonnx.evaluation.heads.head import (
    CELLS,
    HEADS,
    Arrays,
    Frame,
    Head,
    all_probabilities,
    grid_sizes,
)

ANCHORS = 3  # a cell, in YOLOv5
LARGEST_LOG = 20.0  # of a size over its cell; keeps exp finite
PARTS = 5  # four numbers of the box, and objectness


def places(frame: Frame, cells: tuple[int, ...] = CELLS) -> int:
    """Return how many cells the grids over a frame have together."""
    return sum(rows * columns for rows, columns, _ in grid_sizes(frame, cells))


def _single(outputs: Arrays) -> NDArray[np.float64] | None:
    """Return the one output of rank 3, as (N, ., .); None where there is not exactly one."""
    found = [v for v in outputs.values() if v.ndim == 3 and v.dtype.kind == "f"]
    return found[0].astype(np.float64) if len(found) == 1 else None


def _without_masks(values: NDArray[np.float64], outputs: Arrays) -> NDArray[np.float64]:
    """Return rows (N, A, .) without the weights of masks: one a plane of an output (N, ., h, w)."""
    planes = [v.shape[1] for v in outputs.values() if v.ndim == 4]
    return values[..., : values.shape[2] - planes[0]] if len(planes) == 1 else values


def _required(outputs: Arrays) -> NDArray[np.float64]:
    found = _single(outputs)
    if found is None:
        raise ValueError("no single output of rank 3")
    return found


def _shape(values: NDArray[Any]) -> str:
    return "x".join(map(str, values.shape[1:]))


def _recognize_v5(outputs: Arrays, frame: Frame) -> str | None:
    values = _single(outputs)
    if values is None:
        return None
    values = _without_masks(values, outputs)
    if values.shape[2] <= PARTS or not all_probabilities(values[..., 4:]):
        return None
    found = {ANCHORS * places(frame), ANCHORS * places(frame, (*CELLS, 64))}
    if values.shape[1] not in found:
        return None
    return f"an output {_shape(values)} has {ANCHORS} rows for every cell of the grids of 8, 16, 32"


def _decode_rows(values: NDArray[np.float64]) -> list[Detections]:
    """Decode rows (N, A, 5 + K) of center, size, objectness and classes."""
    if values.shape[2] <= PARTS:
        raise ValueError("no classes")
    found = []
    for rows in values:
        rows = rows[rows[:, 4] > LEAST_SCORE]
        scores, classes = best_class(rows[:, PARTS:])
        found.append(suppress(from_centers(rows[:, :4]), scores * rows[:, 4], classes))
    return found


def _decode_v5(outputs: Arrays, frame: Frame) -> list[Detections]:
    return _decode_rows(_without_masks(_required(outputs), outputs))


def _recognize_v8(outputs: Arrays, frame: Frame) -> str | None:
    values = _single(outputs)
    if values is None or values.shape[2] not in {places(frame), places(frame, (*CELLS, 64))}:
        return None
    rows = _without_masks(values.transpose(0, 2, 1), outputs)
    if rows.shape[2] <= 4 or not all_probabilities(rows[..., 4:]):
        return None
    return f"an output {_shape(values)} has a column for every cell of the grids of 8, 16, 32"


def _decode_v8(outputs: Arrays, frame: Frame) -> list[Detections]:
    values = _without_masks(_required(outputs).transpose(0, 2, 1), outputs)  # (N, A, 4 + K)
    if values.shape[2] <= 4:
        raise ValueError("no classes")
    found = []
    for rows in values:
        scores, classes = best_class(rows[:, 4:])
        found.append(suppress(from_centers(rows[:, :4]), scores, classes))
    return found


def _cells_fit(values: NDArray[np.float64] | None, frame: Frame) -> bool:
    return (
        values is not None
        and values.shape[2] > PARTS
        and values.shape[1] == places(frame)
        and all_probabilities(values[..., 4:])
    )


def _recognize_x(outputs: Arrays, frame: Frame) -> str | None:
    values = _single(outputs)
    if values is None or not _cells_fit(values, frame) or _looks_decoded(values, frame):
        return None
    return f"an output {_shape(values)} has a row of offsets for every cell of the grids of 8 to 32"


def _recognize_x_decoded(outputs: Arrays, frame: Frame) -> str | None:
    values = _single(outputs)
    if values is None or not _cells_fit(values, frame) or not _looks_decoded(values, frame):
        return None
    return f"an output {_shape(values)} has a row of pixels for every cell of the grids of 8 to 32"


def _looks_decoded(values: NDArray[np.float64], frame: Frame) -> bool:
    """Return whether boxes are pixels: sizes above 0, and centers spread over the frame."""
    spread = float(np.ptp(values[..., 0]))
    return bool(values[..., 2:4].min() > 0 and spread > 0.5 * frame[1])


def _decode_x(outputs: Arrays, frame: Frame) -> list[Detections]:
    values = _required(outputs)
    corners, sizes = [], []
    for rows, columns, cell in grid_sizes(frame):
        down, across = np.mgrid[:rows, :columns]
        corners.append(np.stack([across.ravel(), down.ravel()], 1))
        sizes.append(np.full((rows * columns, 1), float(cell)))
    corner, cell_size = np.concatenate(corners), np.concatenate(sizes)  # (A, 2), (A, 1)
    if len(corner) != values.shape[1]:
        raise ValueError("not one row a cell")
    center = (values[..., :2] + corner) * cell_size
    size = np.exp(np.minimum(values[..., 2:4], LARGEST_LOG)) * cell_size
    return _decode_rows(np.concatenate([center, size, values[..., 4:]], 2))


def _recognize_end_to_end(outputs: Arrays, frame: Frame) -> str | None:
    values = _single(outputs)
    if values is None or values.shape[2] != 6 or not values.size:
        return None
    left, top, right, bottom, score, label = np.moveaxis(values, 2, 0)
    fits = (right >= left).all() and (bottom >= top).all() and all_probabilities(score)
    if not fits or (label != np.floor(label)).any() or label.min() < 0 or not label.any():
        return None
    return f"an output {_shape(values)} has rows of box, score and a whole number for the class"


def _decode_end_to_end(outputs: Arrays, frame: Frame) -> list[Detections]:
    found = []
    for rows in _required(outputs):
        if rows.shape[1] != 6:
            raise ValueError("not six numbers a row")
        rows = rows[rows[:, 4] > LEAST_SCORE]
        rows = rows[np.argsort(-rows[:, 4], kind="stable")]
        found.append(Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)))
    return found


def _most_label(outputs: Arrays) -> int:
    return int(_required(outputs)[..., 5].max(initial=0)) + 1


HEADS.add("yolov5")(
    Head(
        about="one (N, A, 5 + K) of center, size, objectness and classes",
        shown_score=0.25,
        fit="letterbox",
        recognize=_recognize_v5,
        decode=_decode_v5,
        class_count=lambda outputs: _without_masks(_required(outputs), outputs).shape[2] - PARTS,
    )
)
HEADS.add("yolov8")(
    Head(
        about="one (N, 4 + K, A) of center, size and classes",
        shown_score=0.25,
        fit="letterbox",
        recognize=_recognize_v8,
        decode=_decode_v8,
        class_count=lambda outputs: (
            _without_masks(_required(outputs).transpose(0, 2, 1), outputs).shape[2] - 4
        ),
    )
)
HEADS.add("yolox")(
    Head(
        about="one (N, A, 5 + K) of offsets to a cell, logarithms of sizes, objectness, classes",
        shown_score=0.3,
        fit="pad",
        recognize=_recognize_x,
        decode=_decode_x,
        class_count=lambda outputs: _required(outputs).shape[2] - PARTS,
    )
)
HEADS.add("yolox-decoded")(
    Head(
        about="one (N, A, 5 + K) of center, size, objectness and classes",
        shown_score=0.3,
        fit="pad",
        recognize=_recognize_x_decoded,
        decode=_decode_v5,
        class_count=lambda outputs: _required(outputs).shape[2] - PARTS,
    )
)
HEADS.add("end-to-end")(
    Head(
        about="one (N, n, 6) of corners, score and class",
        shown_score=0.25,
        fit="letterbox",
        recognize=_recognize_end_to_end,
        decode=_decode_end_to_end,
        class_count=_most_label,
    )
)
