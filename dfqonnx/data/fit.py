"""Bringing an image, and what is known of it, to the size that a model reads.

    crop        shorter side scaled to 256/224 of the model's, the middle cut out (classifiers)
    stretch     both sides scaled, each by its own factor
    letterbox   scaled by one factor until it fits, gray (114) on both sides
    pad         scaled by one factor until it fits, gray to the right and below; around lines of
                text there are zeros of the tensor instead

A point x of the image is x * scale + shift in the model's input, per axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqonnx.config.measuring import Fit

GRAY = 114
_KEPT = 224 / 256  # the middle that `crop` keeps of an image scaled by its shorter side


@dataclass(frozen=True)
class Placement:
    """Where an image of (height, width) stands in the model's input, in its pixels."""

    scale: tuple[float, float]  # of x and of y
    shift: tuple[float, float]  # of x and of y
    inner: tuple[int, int]  # height and width of the scaled image


def place_image(size: tuple[int, int], frame: tuple[int, int], fit: Fit) -> Placement:
    """Return where an image of `size` (height, width) stands in a `frame` (height, width)."""
    (height, width), (rows, columns) = size, frame
    if fit == "stretch" or size == frame:
        return Placement((columns / width, rows / height), (0.0, 0.0), frame)
    if fit == "crop":
        scale = max(max(rows, columns) / _KEPT / min(size), columns / width, rows / height)
        inner = max(rows, int(height * scale + 0.5)), max(columns, int(width * scale + 0.5))
        shift = -((inner[1] - columns) // 2), -((inner[0] - rows) // 2)
    else:
        scale = min(columns / width, rows / height)
        inner = (
            min(rows, max(1, int(height * scale + 0.5))),
            min(columns, max(1, int(width * scale + 0.5))),
        )
        shift = (0, 0)
        if fit == "letterbox":
            shift = (columns - inner[1]) // 2, (rows - inner[0]) // 2
    scales = inner[1] / width, inner[0] / height
    return Placement(scales, (float(shift[0]), float(shift[1])), inner)


def fit_pixels(
    image: Image.Image, size: tuple[int, int, int], fit: Fit
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the image as uint8 (H, W, C), and where it lies (H, W); the rest is gray.

    Only what lies in the frame is computed: a strip of 60,000 x 1 pixels would be scaled to GBs.
    """
    rows, columns, channels = size
    place = place_image((image.height, image.width), (rows, columns), fit)
    target, (down, across) = _windows(place, (rows, columns))
    x, y = image.width / place.inner[1], image.height / place.inner[0]
    box = (across.start * x, down.start * y, across.stop * x, down.stop * y)
    box = (*box[:2], min(box[2], image.width), min(box[3], image.height))
    kept = across.stop - across.start, down.stop - down.start
    scaled = np.asarray(image.resize(kept, Image.Resampling.BILINEAR, box=box), np.uint8)
    out = np.full(size, GRAY, np.uint8)
    inside = np.zeros((rows, columns), np.bool_)
    out[target], inside[target] = scaled.reshape(kept[1], kept[0], channels), True
    return out, inside


def fit_mask(mask: NDArray[np.int64], frame: tuple[int, int], fit: Fit, outside: int) -> (
    NDArray[np.int64]
):  # fmt: skip
    """Return a mask (h, w) in the frame, by nearest neighbors; `outside` where there is none."""
    place = place_image((mask.shape[0], mask.shape[1]), frame, fit)
    rows, columns = (
        np.minimum((np.arange(inner) + 0.5) * (full / inner), full - 1).astype(np.int64)
        for inner, full in zip(place.inner, mask.shape, strict=True)
    )
    out = np.full(frame, outside, np.int64)
    target, source = _windows(place, frame)
    out[target] = mask[rows[source[0]][:, None], columns[source[1]][None]]
    return out


def fit_boxes(
    boxes: NDArray[np.float64], size: tuple[int, int], frame: tuple[int, int], fit: Fit
) -> NDArray[np.float64]:
    """Return boxes (n, 4) of an image of `size` in pixels of the frame."""
    place = place_image(size, frame, fit)
    return np.asarray(boxes * np.tile(place.scale, 2) + np.tile(place.shift, 2), np.float64)


def _windows(
    place: Placement, frame: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of the frame that the scaled image covers, and the part of it that does."""
    targets, sources = [], []
    for inner, full, shift in zip(place.inner, frame, place.shift[::-1], strict=True):
        start, skipped = max(0, int(shift)), max(0, -int(shift))
        length = min(inner - skipped, full - start)
        targets.append(slice(start, start + length))
        sources.append(slice(skipped, skipped + length))
    return (targets[0], targets[1]), (sources[0], sources[1])
