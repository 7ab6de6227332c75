"""Pictures of writing, made by the program itself: lines, pages, labels.

Photographs and dead leaves have no thin strokes of one width and one color on a calm ground, which
is all that a network for text was trained on. A picture here is made in this order:

    ground    flat, a linear gradient, stripes, or soft noise of amplitude f^-1.2
    lines     one that fills the height of an image `WIDE` times as wide as high; else one to five
              blocks of lines, of any size
    writing   random letters and digits in the font that Pillow carries, or glyphs drawn from up to
              five strokes, lines and arcs; sheared, stretched and spaced at random
    ink       lighter or darker than the ground by `LEAST_CONTRAST` or more, with some color
    camera    turned by a few degrees, or upside down; blurred, sampled coarsely, noisy
    filling   half of the wide images end early, and the rest is flat, as in batches of lines

No font file comes along, and the letters spell nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from dfqonnx.core.input_format import round_to_pixels

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom

WIDE = 2.0  # width over height
OF_WIDE, OF_LARGE, SMALL = 0.75, 0.25, 64  # shares of text, by shape; pixels of a small image
LEAST_CONTRAST = 0.2  # of the range of intensities
FONT_SHARE = 0.6  # of the lines
LOWEST, HIGHEST = 24, 64  # pixels of a line as it is drawn, before it is scaled
LONGEST = 40  # line heights
LETTERS, DIGITS, SIGNS = "abcdefghijklmnopqrstuvwxyz", "0123456789.,:-/", ".,:;!?@#$%&*()-+=/"


def text_images(count: int, shape: tuple[int, int, int], rng: Generator) -> Iterator[Pixels]:
    """Yield `count` uint8 images (H, W, C)."""
    return (_make_picture(shape, rng) for _ in range(count))


def text_share_of_shape(shape: tuple[int, int, int]) -> float:
    """Return the share of text among procedural images (H, W, C) of which only the shape is known.

    An image `WIDE` times as wide as high is most likely a line of text, a small one is not.
    """
    if is_line_of_text(shape):
        return OF_WIDE
    return OF_LARGE if max(shape[:2]) > SMALL else 0.0


def is_line_of_text(shape: tuple[int, int, int]) -> bool:
    """Return whether images (H, W, C) are shaped as lines of text are."""
    return shape[1] >= WIDE * shape[0]


def mix_in_text(pixels: Pixels, rng: Generator) -> Pixels:
    """Return images (N, H, W, C) of which the share for their shape is replaced by text, evenly."""
    count, *shape = pixels.shape
    height, width, channels = shape
    share = text_share_of_shape((height, width, channels))
    is_text = np.diff(np.floor(share * np.arange(count + 1))) > 0  # (N,)
    found = pixels.copy()
    for place, image in zip(
        np.flatnonzero(is_text),
        text_images(int(is_text.sum()), (height, width, channels), rng),
        strict=True,
    ):
        found[place] = image
    return found


def _make_picture(shape: tuple[int, int, int], rng: Generator) -> Pixels:
    height, width, channels = shape
    wide, used = width >= WIDE * height, width
    if wide and rng.random() < 0.5:
        used = max(min(width, height), int(width * rng.uniform(0.2, 1.0)))
    image = _make_ground((height, used, channels), rng)  # (H, W, C) in 0..1
    boxes = [(0, 0, used, height)] if wide else _choose_boxes(height, width, rng)
    for box in boxes:
        _write(image, box, rng, single=wide)
    pixels = _photograph(np.asarray(round_to_pixels(image * 255)), rng)
    if used == width:
        return pixels
    fill = (0, 128, 255, int(rng.integers(256)))[rng.integers(4)]
    return np.pad(pixels, ((0, 0), (0, width - used), (0, 0)), constant_values=fill)


def _make_ground(shape: tuple[int, int, int], rng: Generator) -> Floats:
    """Return a calm ground, (H, W, C)."""
    height, width, channels = shape
    tint = 0.08 * rng.standard_normal(channels) if channels > 1 else 0.0
    image = np.empty(shape, np.float32)
    image[:] = rng.beta(0.7, 0.7) + tint
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None, None]
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :, None]
    turn, kind = float(rng.uniform(0, 2 * math.pi)), int(rng.integers(4))
    if kind == 1:
        image += rng.uniform(0.1, 0.6) * (across * math.cos(turn) + down * math.sin(turn))
    elif kind == 2:
        along = across * (width * math.cos(turn)) + down * (height * math.sin(turn))  # pixels
        wave = np.sin(along * (2 * math.pi / float(rng.uniform(4, max(8, height / 2)))))
        image += rng.uniform(0.02, 0.12) * (np.sign(wave) if rng.random() < 0.5 else wave)
    elif kind == 3:
        image += rng.uniform(0.03, 0.15) * _sample_soft_noise(height, width, rng)[:, :, None]
    return image


def _sample_soft_noise(height: int, width: int, rng: Generator) -> Floats:
    """Return noise of amplitude f^-1.2 and deviation 1, (H, W)."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) * frequency**-1.2
    noise = np.fft.irfft2(spectrum, s=(height, width))
    found: Floats = (noise / max(float(noise.std()), 1e-9)).astype(np.float32)
    return found


def _choose_boxes(height: int, width: int, rng: Generator) -> list[Box]:
    """Return one to five parts of an image."""
    boxes = []
    for _ in range(rng.integers(1, 6)):
        tall = min(height, max(8, round(height * rng.uniform(0.1, 0.7))))
        broad = min(width, max(12, round(width * rng.uniform(0.25, 1.0))))
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - broad + 1))
        boxes.append((left, top, left + broad, top + tall))
    return boxes


def _write(image: Floats, box: Box, rng: Generator, *, single: bool) -> None:
    """Put one line, or lines below each other, into a part of the image (H, W, C)."""
    left, top, right, bottom = box
    part = image[top:bottom, left:right]
    height, width = part.shape[:2]
    tall = height * rng.uniform(0.55, 1.0) if single else max(6, height / rng.integers(1, 8))
    tall = max(1, min(height, round(tall)))
    color = _choose_ink(part, rng)
    at = int(rng.integers(height - tall + 1)) if single else 0
    while at + tall <= height:
        used = width if single or rng.random() < 0.7 else max(1, int(width * rng.uniform(0.3, 1)))
        mask = _draw_line(tall, used, rng)[:, :, None]  # (h, w, 1)
        row = part[at : at + tall, :used]
        row += mask * (color - row)
        at += height if single else max(1, round(tall * rng.uniform(1.0, 1.5)))


def _choose_ink(ground: Floats, rng: Generator) -> Floats:
    """Return a color (C,) that stands out from the ground (H, W, C)."""
    level, channels = float(ground.mean()), ground.shape[2]
    lighter = rng.random() < min(max(1 - level, 0.0), 1.0)
    room = 1 - level if lighter else level
    contrast = rng.uniform(LEAST_CONTRAST, max(room, LEAST_CONTRAST))
    tint = 0.15 * rng.standard_normal(channels) if channels > 1 else np.zeros(channels)
    return np.clip(level + (contrast if lighter else -contrast) + tint, 0, 1).astype(np.float32)


def _draw_line(height: int, width: int, rng: Generator) -> Floats:
    """Return the share of ink in every pixel of a line that ends within `width`, (H, W)."""
    drawn = min(HIGHEST, max(LOWEST, height))
    stretch = rng.uniform(0.7, 1.3)
    length = max(1, min(LONGEST * drawn, round(width * drawn / (height * stretch))))
    mask = Image.new("L", (length, drawn))
    has_font = rng.random() < FONT_SHARE and features.check("freetype2")
    (_write_letters if has_font else _write_strokes)(mask, rng)
    mask = mask.resize((width, height), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        shear = rng.normal(0, 0.15)
        matrix = (1, shear, -shear * height / 2, 0, 1, 0)
        mask = mask.transform(mask.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(mask, np.float32) / np.float32(255)


def _write_letters(mask: Image.Image, rng: Generator) -> None:
    width, height = mask.size
    size = 0.83 * height
    draw, font = ImageDraw.Draw(mask), ImageFont.load_default(size)
    bold, left = int(rng.choice([0, 0, 1, 2])), float(rng.uniform(0, 0.25 * size))
    gap = rng.normal(0, 0.05 * size)
    while True:
        for letter in _choose_word(rng):
            step = max(1.0, font.getlength(letter) + gap)
            if left + step > width:
                return
            draw.text((left, 0), letter, font=font, fill=255, stroke_width=bold)
            left += step
        left += size * rng.uniform(0.2, 0.6)


def _choose_word(rng: Generator) -> str:
    kind, length = rng.random(), int(rng.integers(1, 10))
    word = "".join(rng.choice(list(DIGITS if kind < 0.25 else LETTERS), length))
    if kind < 0.45:
        return word.upper()
    word = word.capitalize() if kind < 0.65 else word
    return word + (str(rng.choice(list(SIGNS))) if rng.random() < 0.2 else "")


class _Pen(NamedTuple):
    width: int  # pixels
    strokes: int  # of a glyph, at most


def _write_strokes(mask: Image.Image, rng: Generator) -> None:
    width, height = mask.size
    draw = ImageDraw.Draw(mask)
    pen = _Pen(max(1, round(height * rng.uniform(0.04, 0.14))), int(rng.integers(2, 6)))
    left, low = height * rng.uniform(0, 0.2), rng.uniform(0.2, 0.5)  # low: top of small glyphs
    while True:
        for _ in range(rng.integers(1, 10)):
            broad = height * rng.uniform(0.25, 0.75)
            if left + broad > width:
                return
            top = height * (0.06 if rng.random() < 0.4 else low)
            bottom = height * (0.98 if rng.random() < 0.15 else 0.8)
            _draw_glyph(draw, (left, top, left + broad, bottom), pen, rng)
            left += broad + pen.width + height * rng.uniform(0.02, 0.15)
        left += height * rng.uniform(0.2, 0.6)


def _draw_glyph(
    draw: ImageDraw.ImageDraw, box: tuple[float, ...], pen: _Pen, rng: Generator
) -> None:
    """Draw strokes between the corners, the middles of the sides and the center of a box."""
    left, top, right, bottom = box
    middle = (top + bottom) / 2
    places = [(x, y) for x in (left, (left + right) / 2, right) for y in (top, middle, bottom)]
    for _ in range(rng.integers(2, pen.strokes + 1)):
        if rng.random() < 0.6:
            start, end = rng.choice(len(places), 2, replace=False)
            draw.line([places[start], places[end]], fill=255, width=pen.width)
            continue
        upper, lower = [(top, bottom), (top, middle), (middle, bottom)][rng.integers(3)]
        first, sweep = 90 * int(rng.integers(4)), 90 * int(rng.integers(1, 5))
        draw.arc([left, upper, right, max(lower, upper + 1)], first, first + sweep, 255, pen.width)


def _photograph(pixels: Pixels, rng: Generator) -> Pixels:
    """Return the picture (H, W, C), turned, blurred, sampled coarsely and with noise."""
    steps: list[Callable[[Image.Image], Image.Image]] = []
    height, width, channels = pixels.shape
    if rng.random() < 0.5:
        angle, corner = rng.normal(0, 1.5), pixels[0, 0]
        fill = tuple(corner.tolist()) if channels == 3 else int(corner[0])
        bilinear = Image.Resampling.BILINEAR
        steps.append(lambda image: image.rotate(angle, bilinear, fillcolor=fill))
    if rng.random() < 0.25:
        coarse = rng.uniform(0.4, 0.9)
        small = max(1, round(width * coarse)), max(1, round(height * coarse))
        steps.append(lambda image: image.resize(small).resize((width, height)))
    if rng.random() < 0.5:
        blur = ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2))
        steps.append(lambda image: image.filter(blur))
    if rng.random() < 0.3:
        steps.append(lambda image: image.transpose(Image.Transpose.ROTATE_180))
    planes = [pixels] if channels == 3 else list(pixels.transpose(2, 0, 1))
    changed = []
    for plane in planes:
        image = Image.fromarray(plane)
        for step in steps:
            image = step(image)
        changed.append(np.array(image))  # writable
    found = changed[0] if channels == 3 else np.stack(changed, 2)
    if rng.random() < 0.4:
        noise = rng.standard_normal(found.shape, np.float32) * float(rng.uniform(1, 12))
        found = np.asarray(round_to_pixels(found + noise))
    return np.ascontiguousarray(found)
