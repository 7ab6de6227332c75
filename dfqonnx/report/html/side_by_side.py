"""What both models make of a few inputs, drawn side by side: boxes, masks and pictures.

Each drawing is one PNG of three panels: the input, the float model's result, the student's. They
lie in the folder `pictures` of a report, so that the page can be written again.

    boxes      the number of the class and the score on top
    masks      a color for each class, half transparent over the input; class 0 stays as it is
    pictures   as they are
"""

from __future__ import annotations

import base64
import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dfqonnx.evaluation.heads.detections import Detections
from dfqonnx.evaluation.measures.side_pictures import SidePicture

FOLDER = "pictures"
PANEL, GAP = 256, 4  # pixels of a panel's longer side, and between panels
MOST_BOXES = 40  # drawn on one panel, the best
PAPER, INK = (255, 255, 255), (0, 0, 0)
_GOLDEN = 0.618034  # of the color circle: neighbors in number are far apart in color
Pixels = NDArray[np.uint8]


def write_pictures(pictures: Sequence[SidePicture], folder: Path) -> None:
    """Write one PNG for each, `pictures/01.png` and so on; nothing where there are none."""
    if not pictures:
        return
    (folder / FOLDER).mkdir(exist_ok=True)
    for number, each in enumerate(pictures, 1):
        draw_side_by_side(each).save(folder / FOLDER / f"{number:02d}.png")


def load_pictures(folder: Path) -> tuple[str, ...]:
    """Return the drawings of a report's folder as data URIs."""
    found = sorted((folder / FOLDER).glob("[0-9][0-9].png"))
    return tuple(
        f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
        for path in found
        if path.is_file()
    )


def draw_side_by_side(picture: SidePicture) -> Image.Image:
    """Return input, float model and student in one image."""
    panels = [_panel(picture.pixels)]
    for result in (picture.teacher, picture.student):
        if isinstance(result, Detections):
            panels.append(_draw_boxes(picture.pixels, result))
        elif result.ndim == 2:
            panels.append(_draw_mask(picture.pixels, result))
        else:
            panels.append(_panel(result.astype(np.uint8)))
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, max(panel.height for panel in panels)), PAPER)
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + GAP
    return sheet


def _panel(pixels: Pixels) -> Image.Image:
    """Return pixels (H, W, C) at the size of a panel."""
    flat = pixels[..., 0] if pixels.shape[2] != 3 else pixels
    image = Image.fromarray(flat).convert("RGB")
    scale = PANEL / max(image.size)
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return image.resize(size, how)


def _draw_boxes(pixels: Pixels, found: Detections) -> Image.Image:
    image = _panel(pixels)
    across, down = image.width / pixels.shape[1], image.height / pixels.shape[0]
    draw = ImageDraw.Draw(image)
    rows = zip(found.boxes, found.classes, found.scores, strict=True)
    for box, label, score in list(rows)[:MOST_BOXES][::-1]:
        left, top, right, bottom = np.clip(box * [across, down, across, down], -1e4, 1e4)
        color = class_color(int(label))
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=color, width=2)
        words, corner = f"{int(label)} {score:.2f}", (max(left, 0) + 2, max(top, 0) + 1)
        draw.rectangle(draw.textbbox(corner, words), fill=INK)
        draw.text(corner, words, fill=PAPER)
    return image


def _draw_mask(pixels: Pixels, mask: NDArray[np.integer]) -> Image.Image:
    under = _panel(pixels)
    known, places = np.unique(mask, return_inverse=True)
    colors = np.array([class_color(int(label)) for label in known], np.uint8)
    painted = Image.fromarray(colors[places.reshape(mask.shape)])
    painted = painted.resize(under.size, Image.Resampling.NEAREST)
    opaque = Image.fromarray(np.where(mask == 0, 0, 128).astype(np.uint8))
    opaque = opaque.resize(under.size, Image.Resampling.NEAREST)
    return Image.composite(painted, under, opaque)


def class_color(label: int) -> tuple[int, int, int]:
    """Return the color of a class, the same on every drawing."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.85, 0.95)
    return int(255 * red), int(255 * green), int(255 * blue)
