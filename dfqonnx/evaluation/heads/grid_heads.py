"""Heads on one grid (h, w) over the frame (H, W). N images, K classes.

    fastestdet   one (N, 5 + K, h, w): objectness o, four numbers t, probabilities p of the classes
                 center = (cell's index + tanh t_xy) / (w, h), size = sigmoid t_wh, of the frame
                 score = o^0.6 max(p)^0.4
    centernet    heatmap (N, K, h, w), size (N, 2, h, w), offset (N, 2, h, w), in cells
                 centers are the heatmap's peaks among their 3 x 3 neighbors, moved by the offset

Sources: FastestDet (dog-qiuqiu, 2022); Objects as Points (Zhou et al. 2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.heads.detections import Detections, best_class, from_centers, suppress
from dfqonnx.evaluation.heads.head import (
    HEADS,
    Arrays,
    Frame,
    Head,
    all_probabilities,
    rows_sum_to_one,
)

OBJECTNESS_POWER, CLASS_POWER = 0.6, 0.4
PARTS = 5
_CELLS = (8, 16, 32)
_PEAKS = 100  # of a heatmap, as in the paper


def _grids(outputs: Arrays) -> list[tuple[str, NDArray[np.float64]]]:
    """Return the outputs of rank 4 as float64."""
    kept = [(k, v) for k, v in outputs.items() if v.ndim == 4 and v.dtype.kind == "f"]
    return [(k, v.astype(np.float64)) for k, v in kept]


def _cell(values: NDArray[Any], frame: Frame) -> int:
    """Return the pixels of a cell; 0 where the grid does not fit the frame."""
    rows, columns = values.shape[2:]
    cell = frame[0] // rows if rows and not frame[0] % rows else 0
    return cell if columns * cell == frame[1] else 0


def _only_grid(outputs: Arrays) -> NDArray[np.float64]:
    found = _grids(outputs)
    if len(found) != 1 or found[0][1].shape[1] <= PARTS:
        raise ValueError("not one grid with classes")
    return found[0][1]


def _recognize_fastestdet(outputs: Arrays, frame: Frame) -> str | None:
    found = _grids(outputs)
    if len(outputs) != 1 or len(found) != 1:
        return None
    values = found[0][1]
    cell = _cell(values, frame)
    if values.shape[1] <= PARTS + 1 or cell not in _CELLS:
        return None
    classes = np.moveaxis(values[:, PARTS:], 1, -1)
    if not (all_probabilities(values[:, 0]) and rows_sum_to_one(classes)):
        return None
    return (
        f"an output {'x'.join(map(str, values.shape[1:]))} holds objectness, four numbers and"
        f" probabilities for every cell of {cell} pixels"
    )


def _decode_fastestdet(outputs: Arrays, frame: Frame) -> list[Detections]:
    values = np.moveaxis(_only_grid(outputs), 1, -1)  # (N, h, w, 5 + K)
    rows, columns = values.shape[1:3]
    down, across = np.mgrid[:rows, :columns]
    height, width = frame
    found = []
    for grid in values:
        center_x = (across + np.tanh(grid[..., 1])) / columns * width
        center_y = (down + np.tanh(grid[..., 2])) / rows * height
        size = 1 / (1 + np.exp(-grid[..., 3:5]))
        box = np.stack([center_x, center_y, size[..., 0] * width, size[..., 1] * height], -1)
        best, classes = best_class(grid[..., PARTS:].reshape(rows * columns, -1))
        objectness = np.clip(grid[..., 0].ravel(), 0, None)
        scores = objectness**OBJECTNESS_POWER * np.clip(best, 0, None) ** CLASS_POWER
        found.append(suppress(from_centers(box.reshape(-1, 4)), scores, classes))
    return found


def _centernet_parts(
    outputs: Arrays,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return heatmap, size and offset; by name where names say, else the larger one is the size."""
    found = _grids(outputs)
    if len(outputs) != 3 or len(found) != 3 or len({v.shape[2:] for _, v in found}) != 1:
        raise ValueError("not three grids of one size")
    pairs = [(name.lower(), v) for name, v in found if v.shape[1] == 2]
    if len(pairs) == 3:
        named = [p for p in pairs if any(word in p[0] for word in ("hm", "heat", "cls"))]
        pairs = [p for p in pairs if not named or p[0] != named[0][0]]
        heat = named[0][1] if named else None
    else:
        heat = next((v for _, v in found if v.shape[1] != 2), None)
    if heat is None or len(pairs) != 2:
        raise ValueError("not a heatmap and two pairs")
    sized = [any(word in name for word in ("wh", "size", "dim")) for name, _ in pairs]
    first, second = (v for _, v in pairs)
    is_first = sized[0] if sized[0] != sized[1] else np.abs(first).mean() >= np.abs(second).mean()
    size, offset = (first, second) if is_first else (second, first)
    return heat if all_probabilities(heat) else 1 / (1 + np.exp(-heat)), size, offset


def _recognize_centernet(outputs: Arrays, frame: Frame) -> str | None:
    try:
        heat, _, _ = _centernet_parts(outputs)
    except ValueError:
        return None
    cell = _cell(heat, frame)
    if not 2 <= cell <= 32:
        return None
    shape = "x".join(map(str, heat.shape[1:]))
    return f"a heatmap {shape} and two outputs of two planes stand on cells of {cell} pixels"


def _decode_centernet(outputs: Arrays, frame: Frame) -> list[Detections]:
    heat, size, offset = _centernet_parts(outputs)
    cell = _cell(heat, frame)
    if not cell:
        raise ValueError("the grid does not fit the frame")
    padded = np.pad(heat, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3)).max((4, 5))
    peaks = np.where(heat == around, heat, 0.0)  # (N, K, h, w)
    _, kinds, rows, columns = heat.shape
    found = []
    for image, plane in enumerate(peaks):
        best = np.argsort(-plane.ravel(), kind="stable")[:_PEAKS]
        label, down, across = np.unravel_index(best, (kinds, rows, columns))
        at = (slice(None), down, across)
        center = np.stack([across, down], 1) + offset[image][at].T
        box = from_centers(np.concatenate([center, size[image][at].T], 1) * cell)
        found.append(suppress(box, plane.ravel()[best], label.astype(np.int64)))
    return found


def _centernet_classes(outputs: Arrays) -> int:
    return int(_centernet_parts(outputs)[0].shape[1])


HEADS.add("fastestdet")(
    Head(
        about="one (N, 5 + K, h, w) of objectness, four numbers and class probabilities",
        shown_score=0.65,
        fit="stretch",
        recognize=_recognize_fastestdet,
        decode=_decode_fastestdet,
        class_count=lambda outputs: _only_grid(outputs).shape[1] - PARTS,
    )
)
HEADS.add("centernet")(
    Head(
        about="a heatmap (N, K, h, w) with sizes and offsets (N, 2, h, w)",
        shown_score=0.3,
        fit="letterbox",
        recognize=_recognize_centernet,
        decode=_decode_centernet,
        class_count=_centernet_classes,
    )
)
