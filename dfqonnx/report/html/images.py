"""Synthetic images for the page: small ones as they are, large ones scaled down, as data URIs.

A contact sheet by class: a row for each class that the network sees, its number in front.

The classes seen most often come first; where a class has fewer images than columns, its row ends
early. Images are enlarged by whole factors, so that every pixel stays a square.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dfqonnx.report.sections import ClassesSeen

KEPT_SIDE, SIDE = 64, 96  # up to the first, images stay as they are; larger ones get the second
MOST_CLASSES, EACH = 20, 8
MOST_DISAGREEING = 24


@dataclass(frozen=True)
class Picture:
    """One image with both classes."""

    source: str
    place: int
    teacher: int
    student: int

    @property
    def agreed(self) -> bool:
        """Whether both choose the same class."""
        return self.teacher == self.student


@dataclass(frozen=True)
class Row:
    """Images that the teacher puts into one class, and how many of them there are."""

    label: int
    count: int
    agreed: int
    pictures: tuple[Picture, ...]


def load_pixels(folder: Path) -> NDArray[np.uint8] | None:
    """Return the images of an output folder, (N, H, W, C); None when they are not there."""
    path = folder / "synthetic" / "images.npz"
    try:
        with np.load(path, allow_pickle=False) as found:
            pixels = np.asarray(found["x"])
    except (OSError, ValueError, KeyError):
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.ndim == 4 else None


def by_class(seen: ClassesSeen, pixels: NDArray[np.uint8]) -> tuple[Row, ...]:
    """Return the most frequent classes in their order, each with its first images."""
    counts = Counter(seen.teacher)
    shown = sorted(label for label, _ in counts.most_common(MOST_CLASSES))
    rows = []
    for label in shown:
        at = [k for k, teacher in enumerate(seen.teacher) if teacher == label]
        agreed = sum(seen.student[k] == label for k in at)
        pictures = tuple(_picture(seen, pixels, k) for k in at[:EACH])
        rows.append(Row(label, counts[label], agreed, pictures))
    return tuple(rows)


def disagreeing(seen: ClassesSeen, pixels: NDArray[np.uint8]) -> tuple[Picture, ...]:
    """Return the first images on which the two part."""
    both = zip(seen.teacher, seen.student, strict=True)
    at = [k for k, (teacher, student) in enumerate(both) if teacher != student]
    return tuple(_picture(seen, pixels, k) for k in at[:MOST_DISAGREEING])


def fits(seen: ClassesSeen, pixels: NDArray[np.uint8]) -> bool:
    """Tell whether the places in `seen` exist: the images may have been replaced."""
    return all(0 <= place < len(pixels) for place in seen.images)


def _picture(seen: ClassesSeen, pixels: NDArray[np.uint8], k: int) -> Picture:
    place = seen.images[k]
    return Picture(data_uri(pixels[place]), place, seen.teacher[k], seen.student[k])


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return an image (H, W, C) as a data URI: PNG when small, JPEG when scaled down."""
    image = Image.fromarray(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0])
    out = io.BytesIO()
    if max(image.size) <= KEPT_SIDE:
        image.save(out, format="PNG")
        kind = "png"
    else:
        image.thumbnail((SIDE, SIDE))
        image.save(out, format="JPEG", quality=82)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


ROWS, COLUMNS = 10, 12
WIDE = 900  # pixels that a sheet is enlarged up to
GAP, MARGIN = 2, 24
PAPER, INK = (255, 255, 255), (90, 90, 90)


def sheet_by_class(
    pixels: NDArray[np.uint8],
    classes: NDArray[np.int64],
    *,
    rows: int = ROWS,
    columns: int = COLUMNS,
    wide: int = WIDE,
) -> Image.Image:
    """Return the first images of the most frequent classes, a row for each.

    Args:
        pixels: images (N, H, W, C).
        classes: of each, as the network sees it.
        rows: at most.
        columns: at most.
        wide: pixels that it is enlarged up to.
    """
    ranked = [c for c, _ in Counter(classes.tolist()).most_common(rows)]
    lines = [pixels[np.flatnonzero(classes == c)[:columns]] for c in sorted(ranked)]
    height, width = pixels.shape[1:3]
    factor = max(1, wide // (columns * (width + GAP)))
    tall, broad = height * factor + GAP, width * factor + GAP
    sheet = Image.new("RGB", (MARGIN + columns * broad, len(lines) * tall), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (number, line) in enumerate(zip(sorted(ranked), lines, strict=True)):
        draw.text((2, row * tall + tall // 2 - 6), str(number), fill=INK)
        for column, image in enumerate(line):
            tile = picture(image).resize(
                (width * factor, height * factor), Image.Resampling.NEAREST
            )
            sheet.paste(tile, (MARGIN + column * broad, row * tall))
    return sheet


def picture(image: NDArray[np.uint8]) -> Image.Image:
    """Return one image (H, W, C) as Pillow has it: gray, or the first three channels."""
    return Image.fromarray(image[..., 0] if image.shape[2] < 3 else image[..., :3])
