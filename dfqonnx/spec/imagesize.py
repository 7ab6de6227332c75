"""The pixels behind a model's input."""

from __future__ import annotations

import math
import re

from dfqonnx.errors import UsageError
from dfqonnx.spec.inputs import InputSpec


def image_size(shape: tuple[int, ...], spec: InputSpec) -> tuple[int, int, int]:
    """Return (H, W, C) of the pixels of a model whose input is `shape` without the batch axis.

    A model that reads no image (another rank than 3) sees its values as a one-channel image.

    Raises:
        UsageError: the channels do not fit `spec`.
    """
    if len(shape) == 1:
        return 1, shape[0], 1
    if len(shape) == 2:
        return shape[0], shape[1], 1
    if len(shape) > 3:
        return shape[0], math.prod(shape[1:]), 1
    height, width, channels = shape if spec.layout == "NHWC" else (*shape[1:], shape[0])
    gray = spec.channels == "gray"
    if len(spec.mean) not in {1, channels} or (gray and channels != 1) or channels > 4:
        raise UsageError(
            f"preprocess {spec.name}: {spec.channels}, {spec.layout}, {len(spec.mean)} means do not"
            f" fit a model whose input is {'x'.join(map(str, shape))}, read as {channels} channels;"
            " check layout and channels"
        )
    return height, width, channels


def parse_image_size(text: str) -> tuple[int, ...]:
    """Return height and width written as `240x320`, or one number for both.

    >>> parse_image_size("240x320")
    (240, 320)

    Raises:
        UsageError: another form, or a size that no image has.
    """
    match = re.fullmatch(r"(\d{1,6})(?:[x,](\d{1,6}))?", text.strip().lower())
    sizes = () if match is None else tuple(int(part) for part in match.groups() if part)
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"--image-size: cannot read {text!r}; write HEIGHTxWIDTH, such as 240x320, or one"
            " number for both"
        )
    return sizes
