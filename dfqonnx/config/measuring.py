"""What a person asks of the measures: a function, a head, how images fit, names of classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dfqonnx.errors import UsageError, did_you_mean

Fit = Literal["crop", "stretch", "letterbox", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)
PixelRange = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class MeasuringConfig:
    """How outputs are read and measured; what is None is found out.

    Attributes:
        metric: FILE.py:FUNCTION, a measure of the user's own.
        head: the decoder of a detector's outputs, or `ctc`.
        fit: how evaluation images are brought to the model's size.
        pixel_range: of output pictures.
        classes: a file with the names of the model's classes, in order.
    """

    metric: str | None = None
    head: str | None = None
    fit: Fit | None = None
    pixel_range: PixelRange | None = None
    classes: Path | None = None

    @property
    def pixel_range_text(self) -> str | None:
        """The pixel range as it is written; None where none was asked for."""
        return None if self.pixel_range is None else "{:g}:{:g}".format(*self.pixel_range)


def read_measuring(
    metric: str | None,
    head: str | None,
    fit: str | None,
    pixel_range: str | None,
    *,
    classes: str | Path | None = None,
) -> MeasuringConfig:
    """Return the configuration from the texts that a person writes.

    Raises:
        UsageError: a text cannot be read.
    """
    return MeasuringConfig(
        metric=metric,
        head=head,
        fit=None if fit is None else _read_fit(fit),
        pixel_range=None if pixel_range is None else parse_pixel_range(pixel_range),
        classes=None if classes is None else Path(classes),
    )


def _read_fit(text: str) -> Fit:
    for fit in FITS:
        if text == fit:
            return fit
    raise UsageError(f"--fit: unknown fit {text!r}{did_you_mean(text, FITS, label='Fits')}")


def parse_pixel_range(text: str) -> PixelRange:
    """Return the range written as `LOW:HIGH`.

    >>> parse_pixel_range("0:255")
    (0.0, 255.0)

    Raises:
        UsageError: it cannot be read, or is empty.
    """
    parts = text.split(":")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"--pixel-range: cannot read {text!r}; write LOW:HIGH, such as 0:255")
    return low, high
