"""Images on disk: an npz for machines, a contact sheet for eyes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHEET_SIDE = 1024  # pixels of the sheet's longer side, about
ZOOM_UNTIL = 64  # sides up to here are drawn larger


def save_images(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write uint8 images (N, H, W, C) as `x` of a compressed npz; the same bytes every time."""
    np.savez_compressed(path, x=pixels)


def contact_sheet(pixels: NDArray[np.uint8], *, most: int = 100) -> Image.Image:
    """Return up to `most` images (N, H, W, C) in a square grid with thin gaps."""
    height, width, channels = pixels.shape[1:]
    side = max(height, width)
    zoom = max(1, min(4, ZOOM_UNTIL // side)) if side <= ZOOM_UNTIL else 1
    columns = max(1, min(int(most**0.5), SHEET_SIDE // (side * zoom + 2) or 1))
    count = min(len(pixels), columns * columns)
    rows = -(-count // columns)
    cell = (height * zoom + 2, width * zoom + 2)
    sheet = np.full((rows * cell[0] + 2, columns * cell[1] + 2, 3), 32, np.uint8)
    for index in range(count):
        top, left = 2 + index // columns * cell[0], 2 + index % columns * cell[1]
        image = pixels[index] if channels == 3 else pixels[index][..., :1].repeat(3, axis=2)
        image = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
        sheet[top : top + height * zoom, left : left + width * zoom] = image
    return Image.fromarray(sheet)


def save_sheet(pixels: NDArray[np.uint8], path: Path, *, most: int = 100) -> None:
    """Write the contact sheet as PNG."""
    contact_sheet(pixels, most=most).save(path, format="PNG", optimize=True)
