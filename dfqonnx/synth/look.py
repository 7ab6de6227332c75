"""What dead leaves look like, by the size of the image.

Small images show little of a photograph's detail, large ones more: shapes that are small relative
to the side, more of them, flatter textures.
"""

from __future__ import annotations

from dataclasses import dataclass

THUMBNAIL = 64  # pixels of the longer side; up to here an image has the look of small ones
DETAIL = 6.7  # pixels, the smallest radius in larger images
COVER = 3.1  # shapes times smallest radius (in sides), there: how thickly shapes lie


@dataclass(frozen=True)
class Look:
    """What leaves look like, by default in small images. Lengths in sides, intensities in 0..1.

    Attributes:
        shapes: per image.
        smallest: radius.
        largest: radius.
        radius_power: p of the density r^-p.
        aspect: standard deviation of the logarithm of the aspect.
        rectangles: share of shapes that are rectangles.
        level: mean intensity.
        level_spread: its standard deviation over images.
        contrast: standard deviation of the luminance of shapes.
        chroma: standard deviation of the chroma of shapes, over that of luminance.
        background: strength of the background's texture over `contrast`.
        texture: greatest strength of a shape's texture.
        slope: p of the textures' amplitude f^-p.
        gradient: strength of the gradient across a shape.
    """

    shapes: int = 16
    smallest: float = 0.12
    largest: float = 0.8
    radius_power: float = 2.0
    aspect: float = 0.4
    rectangles: float = 0.4
    level: float = 0.47
    level_spread: float = 0.12
    contrast: float = 0.25
    chroma: float = 0.22
    background: float = 0.6
    texture: float = 0.2
    slope: float = 1.5
    gradient: float = 0.15


def look_at(side: int) -> Look:
    """Return the look of images whose longer side is `side` pixels.

    Chosen without images: for small ones on 32x32 networks, for larger ones where leaves come
    nearest to what the BatchNormalization of three networks of 128 to 320 pixels remembers
    (`pipelines/TRIALS.md`).
    """
    if side <= THUMBNAIL:
        return Look()
    smallest = DETAIL / side
    return Look(
        shapes=round(COVER / smallest),
        smallest=smallest,
        aspect=0.6,
        contrast=0.3,
        chroma=0.3,
        texture=0.3,
        slope=1.2,
        gradient=0.3,
    )
