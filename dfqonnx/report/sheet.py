"""A contact sheet by class: a row for each class that the network sees, its number in front.

The classes seen most often come first; where a class has fewer images than columns, its row ends
early. Images are enlarged by whole factors, so that every pixel stays a square.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

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
