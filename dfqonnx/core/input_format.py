"""Input specification: how pixels become the tensor that the model reads.

    tensor = (pixels / scale - mean) / std        pixels 0..255, mean and std per channel

It gives evaluation images their form and synthetic images their valid range, and is written into
the exported file's metadata so that later commands need not be told again.

The pixels behind a model's input.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from dfqonnx.errors import UsageError

Layout = Literal["NCHW", "NHWC"]
Channels = Literal["RGB", "BGR", "gray"]
METADATA_KEY = "dfqonnx.preprocess"
_CHANNEL_COUNTS = (1, 3)


@dataclass(frozen=True)
class InputFormat:
    """One way of feeding images.

    Attributes:
        name: preset or file that it came from.
        scale: divisor of the pixels.
        mean: subtracted after scaling, one per channel (a single one is repeated).
        std: divisor after subtracting, one per channel (a single one is repeated).
        layout: axis order that the model reads.
        channels: channel order that the model reads.
    """

    name: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Layout = "NCHW"
    channels: Channels = "RGB"

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise UsageError(f"preprocess {self.name}: scale {self.scale} must be above 0")
        if not self.mean or len(self.mean) != len(self.std):
            raise UsageError(
                f"preprocess {self.name}: mean has {len(self.mean)} and std {len(self.std)} values;"
                " give one for each channel"
            )
        if min(self.std) <= 0:
            raise UsageError(f"preprocess {self.name}: std {min(self.std)} must be above 0")
        if self.layout not in ("NCHW", "NHWC"):
            raise UsageError(f"preprocess {self.name}: layout {self.layout!r}; use NCHW or NHWC")
        if self.channels not in ("RGB", "BGR", "gray"):
            raise UsageError(
                f"preprocess {self.name}: channels {self.channels!r}; use RGB, BGR or gray"
            )

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, name: str) -> Self:
        """Build from the keys of a YAML file.

        Raises:
            UsageError: an unknown or missing key, or a value of the wrong kind.
        """
        known = {"scale", "mean", "std", "layout", "channels"}
        unknown = sorted(set(values) - known - {"name"})
        if unknown:
            raise UsageError(
                f"preprocess {name}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
        try:
            return cls(
                name=str(values.get("name", name)),
                scale=float(values.get("scale", 1.0)),
                mean=_floats(values.get("mean", 0.0)),
                std=_floats(values.get("std", 1.0)),
                layout=values.get("layout", "NCHW"),
                channels=values.get("channels", "RGB"),
            )
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"preprocess {name}: {error}; scale, mean and std are numbers"
            ) from None

    def fitted(self, shape: tuple[int, ...]) -> Self:
        """Return the spec with the layout that `shape` (without batch) leaves possible.

        A shape that fits both layouts, or neither, keeps the layout as it is.
        """
        if len(shape) != 3:
            return self
        first, last = shape[0] in _CHANNEL_COUNTS, shape[-1] in _CHANNEL_COUNTS
        if first == last:
            return self
        return replace(self, layout="NCHW" if first else "NHWC")

    def range(self, channel: int) -> tuple[float, float]:
        """Return the tensor values of pixels 0 and 255 in `channel`."""
        mean, std = self.mean[channel % len(self.mean)], self.std[channel % len(self.std)]
        return (0.0 - mean) / std, (255.0 / self.scale - mean) / std

    @property
    def signed(self) -> bool:
        """Whether some valid tensor value is negative."""
        return any(self.range(c)[0] < 0 for c in range(len(self.mean)))

    def to_json(self) -> str:
        """Return the form kept in a model's metadata."""
        return json.dumps(asdict(self), sort_keys=True)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, (list, tuple)) else (float(value),)


PRESETS: Mapping[str, InputFormat] = {
    spec.name: spec
    for spec in (
        InputFormat("imagenet", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        InputFormat("cifar10", 255.0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        InputFormat("cifar100", 255.0, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        InputFormat("zero-one", 255.0, (0.0,), (1.0,)),
        InputFormat("minus-one-one", 255.0, (0.5,), (0.5,)),
        InputFormat("raw", 1.0, (0.0,), (1.0,)),
    )
}


def image_size(shape: tuple[int, ...], spec: InputFormat) -> tuple[int, int, int]:
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
