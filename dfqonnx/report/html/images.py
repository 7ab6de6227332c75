"""Synthetic images as pictures: thumbnails for the page, and contact sheets as files.

Small images are shown pixel by pixel; on a sheet they are enlarged by whole factors, so that every
pixel stays a square. Large ones are scaled down for the page.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dfqonnx.data.npz_file import read_arrays
from dfqonnx.errors import UsageError
from dfqonnx.report.sections import HeldOutClasses

MAX_EXACT_SIDE, THUMBNAIL_SIDE = 64, 96  # larger images than the first are scaled to the second
MAX_CLASSES, IMAGES_PER_CLASS = 20, 8
MAX_DISAGREEING = 24
SHEET_IMAGES, SHEET_PIXELS = 64, 1024
MOST_ON_SHEET, SHEET_SIDE = 1000, 112  # images that are looked through; larger ones are reduced
CLASS_ROWS, CLASS_COLUMNS, CLASS_SHEET_PIXELS = 10, 12, 900
GAP, MARGIN, LINE = 2, 24, 16
PAPER, INK = (255, 255, 255), (90, 90, 90)
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Thumbnail:
    """One image, as a data URI, with the classes that teacher and student choose."""

    source: str
    index: int
    teacher: int
    student: int


@dataclass(frozen=True)
class ClassRow:
    """Images of one class by the teacher: their number, and those on which the student agrees."""

    label: int
    count: int
    agreed: int
    thumbnails: tuple[Thumbnail, ...]


def load_pixels(folder: Path) -> Pixels | None:
    """Return the images of an output folder, (N, H, W, C); None when they are missing."""
    path = folder / "synthetic" / "images.npz"
    try:
        pixels = read_arrays(path, ("x",), flag="images")["x"]
    except UsageError:
        return None
    return pixels if pixels.dtype == np.uint8 and pixels.ndim == 4 else None


def rows_by_class(classes: HeldOutClasses, pixels: Pixels) -> tuple[ClassRow, ...]:
    """Return the most frequent classes in label order, each with its first images."""
    counts = Counter(classes.teacher)
    rows = []
    for label in sorted(label for label, _ in counts.most_common(MAX_CLASSES)):
        members = [k for k, teacher in enumerate(classes.teacher) if teacher == label]
        agreed = sum(classes.student[k] == label for k in members)
        shown = tuple(_thumbnail(classes, pixels, k) for k in members[:IMAGES_PER_CLASS])
        rows.append(ClassRow(label, counts[label], agreed, shown))
    return tuple(rows)


def disagreeing_images(classes: HeldOutClasses, pixels: Pixels) -> tuple[Thumbnail, ...]:
    """Return the first images for which teacher and student choose different classes."""
    both = zip(classes.teacher, classes.student, strict=True)
    found = [k for k, (teacher, student) in enumerate(both) if teacher != student]
    return tuple(_thumbnail(classes, pixels, k) for k in found[:MAX_DISAGREEING])


def _thumbnail(classes: HeldOutClasses, pixels: Pixels, k: int) -> Thumbnail:
    index = classes.images[k]
    return Thumbnail(data_uri(pixels[index]), index, classes.teacher[k], classes.student[k])


def data_uri(pixels: Pixels) -> str:
    """Return an image (H, W, C) as a data URI: PNG when small, JPEG when scaled down."""
    image = _to_pillow(pixels)
    out = io.BytesIO()
    if max(image.size) <= MAX_EXACT_SIDE:
        image.save(out, format="PNG")
        kind = "png"
    else:
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        image.save(out, format="JPEG", quality=82)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def captioned_sheet(
    pixels: Pixels, *, count: int, source: str, classes: NDArray[np.int64] | None = None
) -> Image.Image:
    """Return a contact sheet of images (N, H, W, C) with a line that says what they are.

    Args:
        pixels: those that may be shown.
        count: how many were made.
        source: of the recipe, such as "optimized".
        classes: the network's class (N,) of each; None where it has none, or they are not known.
    """
    height, width = pixels.shape[1:3]
    caption = f"{count:,} images of {height} x {width} from source {source!r}"
    pixels = _shrink(pixels[:MOST_ON_SHEET])
    if classes is not None and len(classes):
        sheet = class_sheet(pixels, classes[:MOST_ON_SHEET])
        caption += "; a row is a class as the float network sees it"
    else:
        sheet = contact_sheet(pixels)
        caption += f"; the first {min(len(pixels), SHEET_IMAGES)}"
    return _add_caption(sheet.convert("RGB"), caption)


def _shrink(pixels: Pixels) -> Pixels:
    """Return images (N, H, W, C) that fill no screen by themselves, reduced by a whole factor."""
    factor = math.ceil(max(pixels.shape[1:3]) / SHEET_SIDE)
    if factor < 2:
        return pixels
    reduced = [np.asarray(_to_pillow(image).reduce(factor)) for image in pixels]
    return np.stack(reduced).reshape(len(reduced), *reduced[0].shape[:2], -1)


def _add_caption(sheet: Image.Image, caption: str) -> Image.Image:
    """Return the sheet with a caption below it, in as many lines as its width asks for."""
    measure = ImageDraw.Draw(sheet).textlength
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and measure(longer) > sheet.width - 2 * GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    whole = Image.new("RGB", (sheet.width, sheet.height + LINE * len(lines) + 2 * GAP), PAPER)
    whole.paste(sheet, (0, 0))
    ImageDraw.Draw(whole).multiline_text((GAP, sheet.height + GAP), "\n".join(lines), fill=INK)
    return whole


def contact_sheet(pixels: Pixels) -> Image.Image:
    """Return the first images (N, H, W, C) side by side in a square."""
    shown = pixels[:SHEET_IMAGES]
    side = max(1, math.ceil(math.sqrt(len(shown))))
    _, height, width, channels = shown.shape
    sheet = np.full((side * (height + 1), side * (width + 1), channels), 255, np.uint8)
    for index, image in enumerate(shown):
        y, x = index // side * (height + 1), index % side * (width + 1)
        sheet[y : y + height, x : x + width] = image
    return _enlarge(_to_pillow(sheet), max(1, SHEET_PIXELS // max(sheet.shape[:2])))


def class_sheet(
    pixels: Pixels,
    classes: NDArray[np.int64],
    *,
    rows: int = CLASS_ROWS,
    columns: int = CLASS_COLUMNS,
    sheet_pixels: int = CLASS_SHEET_PIXELS,
) -> Image.Image:
    """Return the first images (N, H, W, C) of the most frequent classes, a labeled row for each.

    There are at most so many rows and columns, and the sheet is enlarged up to `sheet_pixels`.
    """
    labels = sorted(label for label, _ in Counter(classes.tolist()).most_common(rows))
    height, width = pixels.shape[1:3]
    factor = max(1, sheet_pixels // (columns * (width + GAP)))
    row_height, column_width = height * factor + GAP, width * factor + GAP
    size = MARGIN + columns * column_width, len(labels) * row_height
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(labels):
        draw.text((2, row * row_height + row_height // 2 - 6), str(label), fill=INK)
        for column, index in enumerate(np.flatnonzero(classes == label)[:columns]):
            tile = _enlarge(_to_pillow(pixels[index]), factor)
            sheet.paste(tile, (MARGIN + column * column_width, row * row_height))
    return sheet


def _to_pillow(pixels: Pixels) -> Image.Image:
    """Return an image (H, W, C) for Pillow: gray, or the first three channels."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] < 3 else pixels[..., :3])


def _enlarge(image: Image.Image, factor: int) -> Image.Image:
    size = image.width * factor, image.height * factor
    return image.resize(size, Image.Resampling.NEAREST)
