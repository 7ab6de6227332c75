"""Likeness of pictures: PSNR and SSIM over a pixel range of the user's.

    PSNR = 10 log10(R^2 / mean (t - s)^2), R the width of the range; mean over images
    SSIM = mean over pixels of
           (2 mt ms + c1) (2 vts + c2) / ((mt^2 + ms^2 + c1) (vt + vs + c2))
           with means m and (co)variances v under a Gaussian of deviation 1.5 (11 x 11),
           c1 = (0.01 R)^2, c2 = (0.03 R)^2; mean over channels and images

Source: Wang, Bovik, Sheikh and Simoncelli, Image quality assessment (2004). Pictures are cut to
the range first, as a screen does. The range is what the user says, else the narrowest of 0 to 1,
-1 to 1 and 0 to 255 that holds 99 % of the float model's values, else their own span.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.evaluation.bootstrap import redraw, weighted_mean
from dfqonnx.evaluation.measures.add_intervals import add_intervals
from dfqonnx.evaluation.measures.side_pictures import SHOWN_INPUTS, Shown
from dfqonnx.evaluation.measures.task_measure import TaskMeasure, Truth, finite
from dfqonnx.evaluation.outputs import Array, Outputs

USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_INSIDE, _SLACK = 0.99, 0.02  # share of values, and how far beyond, in widths of the range
_DEVIATION, _REACH, _FIRST, _SECOND = 1.5, 5, 0.01, 0.03
EQUAL_DB = 100.0  # shown for equal pictures, whose ratio is infinite
Range = tuple[float, float]
Floats = NDArray[np.float64]


def guess_range(values: Array) -> Range:
    """Return the narrowest usual range that holds nearly all values, else their own span."""
    for low, high in USUAL_RANGES:
        slack = _SLACK * (high - low)
        if ((values >= low - slack) & (values <= high + slack)).mean() >= _INSIDE:
            return low, high
    return float(values.min()), float(values.max())


def peak_ratio_db(first: Array, second: Array, width: float) -> float:
    """Return the PSNR of two arrays over a range of `width`; `EQUAL_DB` at most."""
    noise = float(np.square(first.astype(np.float64) - second).mean())
    if noise <= 0:
        return EQUAL_DB
    return min(EQUAL_DB, 20 * math.log10(width) - 10 * math.log10(noise))


def structural_similarity(first: Array, second: Array, width: float) -> float:
    """Return the SSIM of two planes (h, w) over a range of `width`.

    Pixels nearer to the edge than the window reaches do not count.

    Raises:
        ValueError: a side is shorter than the window of 11.
    """
    if min(first.shape) < 2 * _REACH + 1:
        raise ValueError(f"planes {first.shape} are smaller than the window of {2 * _REACH + 1}")

    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    both = _smooth(x * y) - mean_x * mean_y
    c1, c2 = (_FIRST * width) ** 2, (_SECOND * width) ** 2
    found = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    found /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(found.mean())


def _smooth(values: Floats) -> Floats:
    """Return the Gaussian means (h - 10, w - 10) of a plane (h, w), where the window fits."""
    window = np.exp(-0.5 * np.square(np.arange(-_REACH, _REACH + 1) / _DEVIATION))
    window /= window.sum()
    for axis in (0, 1):
        places = values.shape[axis] - 2 * _REACH
        parts = (np.take(values, range(k, k + places), axis) for k in range(2 * _REACH + 1))
        values = np.asarray(
            sum(w * part for w, part in zip(window, parts, strict=True)), np.float64
        )
    return values


class PictureTally:
    """Gathers the likeness of one output's pictures, channels on `axis`."""

    def __init__(
        self,
        output: str,
        axis: int,
        *,
        pixel_range: Range | None = None,
        labels: Array | None = None,
    ) -> None:
        self.output, self.axis, self.range = output, axis, pixel_range
        self.is_given, self.labels = pixel_range is not None, labels
        self.first: tuple[list[Shown], list[Shown]] = ([], [])
        self.found: dict[str, list[tuple[float, float | None]]] = {}

    def add(self, teacher: Outputs, student: Outputs, start: int) -> None:
        """Compare a batch of pictures; its first one has the place `start`."""
        first, second = (np.moveaxis(p[self.output], self.axis, 1) for p in (teacher, student))
        if self.range is None:
            self.range = guess_range(first)
        self._compare("student", first, second)
        room = SHOWN_INPUTS - len(self.first[0])
        for kept, pictures in zip(self.first, (first, second), strict=True):
            kept += [self._to_pixels(each) for each in pictures[:room]]
        if self.labels is not None:
            truth = np.moveaxis(self.labels[start : start + len(first)], self.axis, 1)
            self._compare("label teacher", truth, first)
            self._compare("label student", truth, second)

    def _to_pixels(self, picture: Array) -> NDArray[np.uint8]:
        """Return a picture (C, h, w) as uint8 (h, w, C)."""
        low, high = self.range or (0.0, 1.0)
        scaled = (picture.astype(np.float64) - low) / max(high - low, 1e-12) * 255
        return round_to_pixels(np.moveaxis(scaled, 0, 2))

    def shown(self) -> tuple[list[Shown], list[Shown]]:
        """Return the first pictures."""
        return self.first

    def _compare(self, name: str, truth: Array, shown: Array) -> None:
        assert self.range is not None
        low, high = self.range
        width = max(high - low, 1e-12)
        pairs = zip(np.clip(truth, low, high), np.clip(shown, low, high), strict=True)
        for first, second in pairs:
            is_large = min(first.shape[1:]) >= 2 * _REACH + 1
            planes = zip(first, second, strict=True)
            ssim = [structural_similarity(a, b, width) for a, b in planes] if is_large else []
            figures = peak_ratio_db(first, second, width), float(np.mean(ssim)) if ssim else None
            self.found.setdefault(name, []).append(figures)

    def measures(self) -> tuple[TaskMeasure, ...]:
        """Return psnr and ssim of the student's pictures to the float model's, and to labels."""
        rows = list(self._rows("float model", None, "student", prefix=""))
        if self.labels is not None:
            rows += self._rows("labels", "label teacher", "label student", prefix="label_")
        return tuple(rows)

    def _rows(
        self, truth: Truth, teacher: str | None, student: str, *, prefix: str
    ) -> list[TaskMeasure]:
        low, high = self.range or (0.0, 1.0)
        how = "given" if self.is_given else "by their values"
        whose = "the float model's" if truth == "float model" else "the labeled ones"
        pictures = f"to {whose}, pixels {low:g} to {high:g} ({how})"
        n = len(self.found.get(student, ()))
        texts = (
            ("psnr", " dB", f"peak signal to noise ratio of the pictures {pictures}; from about"
             f" 40 dB on a difference is hard to see, {EQUAL_DB:g} stands for equal"),
            ("ssim", "", f"structural similarity of the pictures {pictures}; 1 is equal"),
        )  # fmt: skip
        rows = []
        for column, (name, unit, meaning) in enumerate(texts):
            found = TaskMeasure(
                name=prefix + name,
                task="images",
                truth=truth,
                teacher=None if teacher is None else self._mean(teacher, column),
                student=self._mean(student, column),
                unit=unit,
                n=n,
                meaning=meaning,
            )
            parts = (student,) if teacher is None else (student, teacher)
            figures = [weighted_mean(self._column(part, column)) for part in parts]
            is_share = name == "ssim"
            rows.append(add_intervals(found, *redraw(n, *figures), is_share=is_share))
        return rows

    def _column(self, name: str, column: int) -> Floats:
        """Return one figure of every picture, NaN where it has none."""
        values = [row[column] for row in self.found.get(name, ())]
        return np.array([math.nan if value is None else value for value in values])

    def _mean(self, name: str, column: int) -> float | None:
        values = self._column(name, column)
        return finite(float(values.mean())) if len(values) else None
