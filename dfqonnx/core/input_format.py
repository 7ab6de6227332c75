"""How pixels become the tensor that a model reads, and back.

    tensor = (pixels / scale - mean) / std        pixels = round((tensor std + mean) scale)

Pixels are uint8 (N, H, W, C), 0 to 255; mean and std have one value per channel, in the model's
channel order. Inputs that are no images ("values": features, spectrograms, vectors) go the same way
as one channel; there mean and std may have one value per feature, and features are what the last
axis counts (layout NHWC) or the first (NCHW). `Preprocessing` is what a person writes
(`--preprocess`) and what the exported file's metadata keep; `InputFormat` adds the shape of the
model's input. Numpy arrays and torch tensors go through the same lines.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import UsageError

Layout = Literal["NCHW", "NHWC"]
Channels = Literal["RGB", "BGR", "gray", "values"]
MAX_SETTING = 1e6  # of scale, mean and std, and of what the model reads
LEAST_RANGE = 1e-5  # of what the model reads, as a share of its size: float32 keeps 1e-7
METADATA_KEY = "dfqonnx.preprocess"
_CHANNEL_COUNTS = (1, 3)
Pixels = TypeVar("Pixels")  # a numpy array or a torch tensor


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """One way of feeding images."""

    name: str  # preset or file that it came from
    scale: float  # divisor of the pixels
    mean: tuple[float, ...]  # subtracted after scaling, one per channel (a single one is repeated)
    std: tuple[float, ...]  # divisor after subtracting, one per channel (a single one is repeated)
    layout: Layout = "NCHW"  # axis order that the model reads
    channels: Channels = "RGB"  # channel order that the model reads

    def __post_init__(self) -> None:
        for key, values in (("scale", (self.scale,)), ("mean", self.mean), ("std", self.std)):
            odd = [value for value in values if not abs(value) <= MAX_SETTING]
            if odd:
                raise UsageError(
                    f"preprocess {self.name}: {key} {odd[0]:g} is no number from -{MAX_SETTING:g}"
                    f" to {MAX_SETTING:g}"
                )
        if self.scale <= 0:
            raise UsageError(f"preprocess {self.name}: scale {self.scale} must be above 0")
        if not self.mean or len(self.mean) != len(self.std):
            raise UsageError(
                f"preprocess {self.name}: mean has {len(self.mean)} and std {len(self.std)} values;"
                " give one for each channel"
            )
        if min(self.std) <= 0:
            raise UsageError(f"preprocess {self.name}: std {min(self.std)} must be above 0")
        low = min(self.range(c)[0] for c in range(len(self.mean)))
        high = max(self.range(c)[1] for c in range(len(self.mean)))
        most = max(abs(low), abs(high), LEAST_RANGE)
        if not (most <= MAX_SETTING and high - low > LEAST_RANGE * most):
            raise UsageError(
                f"preprocess {self.name}: pixels would become {low:g} to {high:g}; check scale,"
                " mean and std"
            )
        if self.layout not in ("NCHW", "NHWC"):
            raise UsageError(f"preprocess {self.name}: layout {self.layout!r}; use NCHW or NHWC")
        if self.channels not in ("RGB", "BGR", "gray", "values"):
            raise UsageError(
                f"preprocess {self.name}: channels {self.channels!r}; use RGB, BGR or gray, or"
                " values for inputs that are no images"
            )

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, name: str) -> Self:
        """Build from the keys of a YAML file; an unknown key or an odd value is a UsageError."""
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
        """Return it with the layout that `shape` (without batch) leaves possible.

        A shape that fits both layouts, or neither, keeps the layout as it is.
        """
        if len(shape) != 3 or self.channels == "values":
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

    @property
    def standardizes(self) -> bool:
        """Whether mean and std are those of photographs, so that pixels have mean 0, deviation 1.

        The one lies in 0.2..0.8 of the pixels' range, the other in 0.1..0.4 of it.
        """
        ends = [self.range(c) for c in range(len(self.mean))]
        means = [-low / (high - low) for low, high in ends]
        deviations = [1 / (high - low) for low, high in ends]
        photographic = min(means) >= 0.2 and max(means) <= 0.8
        return photographic and min(deviations) >= 0.1 and max(deviations) <= 0.4

    def to_json(self) -> str:
        """Return the form kept in a model's metadata."""
        return json.dumps(asdict(self), sort_keys=True)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, (list, tuple)) else (float(value),)


_PRESETS: Mapping[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": (255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": (255.0, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": (255.0, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "zero-one": (255.0, (0.0,), (1.0,)),
    "minus-one-one": (255.0, (0.5,), (0.5,)),
    "raw": (1.0, (0.0,), (1.0,)),
}
PRESETS: Mapping[str, Preprocessing] = {
    name: Preprocessing(name=name, scale=scale, mean=mean, std=std)
    for name, (scale, mean, std) in _PRESETS.items()
}


@dataclass(frozen=True)
class InputFormat:
    """How pixels become the input of one model; what does not fit its shape is a UsageError."""

    preprocessing: Preprocessing
    shape: tuple[int, ...]  # of the model's input without the batch axis, in the model's own layout

    def __post_init__(self) -> None:
        p = self.preprocessing
        if not self.is_image:
            self._check_features()
            return
        channels = self.image_size[2]
        gray = p.channels == "gray"
        if len(p.mean) not in {1, channels} or (gray and channels != 1) or channels > 4:
            raise UsageError(
                f"preprocess {p.name}: {p.channels}, {p.layout}, {len(p.mean)} means do"
                f" not fit a model whose input is {'x'.join(map(str, self.shape))}, read as"
                f" {channels} channels; check layout and channels"
            )

    def _check_features(self) -> None:
        p, size = self.preprocessing, self.image_size
        features = size[0] if p.layout == "NCHW" else size[1]
        if len(p.mean) not in {1, features}:
            raise UsageError(
                f"preprocess {p.name}: {len(p.mean)} means do not fit values of"
                f" {'x'.join(map(str, self.shape))}; {p.layout} counts {features} features along"
                f" the {'first' if p.layout == 'NCHW' else 'last'} axis: give as many, or one"
            )

    @property
    def is_image(self) -> bool:
        """Whether the model reads images: channels, height and width, not said to be values."""
        return len(self.shape) == 3 and self.preprocessing.channels != "values"

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(H, W, C) of the pixels; values that are no image count as one of a single channel.

        Their axes of one place are left out, and all axes behind the first count as one.
        """
        if self.is_image:
            first, second, third = self.shape
            nhwc = self.preprocessing.layout == "NHWC"
            return (first, second, third) if nhwc else (second, third, first)
        axes = [size for size in self.shape if size != 1] or [1]
        if len(axes) == 1:
            return 1, axes[0], 1
        return axes[0], math.prod(axes[1:]), 1

    @property
    def signed(self) -> bool:
        """Whether some valid tensor value is negative."""
        return self.preprocessing.signed

    def feeds_as(self, other: InputFormat) -> bool:
        """Return whether both make the same tensor of every image, to a hundredth of its range."""
        own, theirs = self.preprocessing, other.preprocessing
        channels = self.image_size[2]
        if self.is_image != other.is_image:
            return False
        if not self.is_image:
            channels = max(len(own.mean), len(theirs.mean))
        if self.shape != other.shape or (channels > 1 and own.channels != theirs.channels):
            return False
        if (self.is_image or channels > 1) and own.layout != theirs.layout:
            return False
        pairs = [(own.range(c), theirs.range(c)) for c in range(channels)]
        return all(
            abs(first - second) <= 0.01 * (theirs_high - theirs_low)
            for (own_low, own_high), (theirs_low, theirs_high) in pairs
            for first, second in ((own_low, theirs_low), (own_high, theirs_high))
        )

    def describe_values(self) -> str:
        """Return the preprocessing's name and what it makes of pixels, in words."""
        p = self.preprocessing
        if not self.is_image:
            count = len(p.mean)
            low, high = (
                f(p.range(at)[end] for at in range(count)) for f, end in ((min, 0), (max, 1))
            )
            each = f" over {count} features" if count > 1 else ""
            return f"values, {low:.3g} to {high:.3g}{each}"
        ranges = {p.range(c) for c in range(self.image_size[2])}
        values = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in sorted(ranges))
        return f"{p.name!r} ({p.channels} {p.layout}, {values})"

    @overload
    def to_tensor(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]: ...
    @overload
    def to_tensor(self, pixels: Pixels) -> Pixels: ...
    def to_tensor(self, pixels: Any) -> Any:
        """Return the model's input tensor, float32 (N, *shape), of uint8 pixels (N, H, W, C).

        Their height and width may differ from `shape` where the model leaves them open.

        Raises:
            UsageError: there is another number of channels than of means.
        """
        p = self.preprocessing
        if not self.is_image:
            return self._to_values(_as_float32(pixels)[..., 0])
        if len(p.mean) not in {1, pixels.shape[-1]}:
            raise UsageError(
                f"preprocess {p.name}: mean and std have {len(p.mean)} values, the images"
                f" have {pixels.shape[-1]} channels"
            )
        x = _as_float32(_reversed(pixels) if p.channels == "BGR" else pixels)
        x = (x / p.scale - _constant(p.mean, x)) / _constant(p.std, x)  # (N, H, W, C)
        if p.layout == "NCHW":
            x = x.swapaxes(1, 3).swapaxes(2, 3)  # (N, C, H, W)
        return _contiguous(x)

    def _to_values(self, x: Any) -> Any:
        """Return values (N, *shape) of pixels (N, H, W)."""
        mean, std = (self._of_features(values, x) for values in self._scaling)
        return _contiguous(
            ((x / self.preprocessing.scale - mean) / std).reshape(len(x), *self.shape)
        )

    @property
    def _scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.preprocessing.mean, self.preprocessing.std

    def _of_features(self, values: tuple[float, ...], like: Any) -> Any:
        """Return what there is one of for every feature in the form of (H, W)."""
        found = _constant(values, like)
        return found[:, None] if self.preprocessing.layout == "NCHW" else found

    def to_pixels(self, tensor: Pixels) -> Pixels:
        """Return the nearest pixels, uint8 (N, H, W, C), of an input tensor (N, *shape)."""
        p, x = self.preprocessing, cast("Any", tensor)
        if not self.is_image:
            height, width, _ = self.image_size
            x = x.reshape(len(x), height, width)
            mean, std = (self._of_features(values, x) for values in self._scaling)
            return cast("Pixels", round_to_pixels((x * std + mean) * p.scale)[..., None])
        if p.layout == "NCHW":
            x = x.swapaxes(2, 3).swapaxes(1, 3)  # (N, H, W, C)
        x = (x * _constant(p.std, x) + _constant(p.mean, x)) * p.scale
        x = round_to_pixels(x)
        return cast("Pixels", _contiguous(_reversed(x) if p.channels == "BGR" else x))

    def to_layout(self, images: Pixels) -> Pixels:
        """Return images (N, C, H, W) with the axes in the order that the model reads."""
        x = cast("Any", images)
        nhwc = self.preprocessing.layout == "NHWC"
        return cast("Pixels", x.swapaxes(1, 3).swapaxes(1, 2) if nhwc else x)

    def from_layout(self, x: Pixels) -> Pixels:
        """Return an image tensor (N, *shape) as (N, C, H, W)."""
        y = cast("Any", x)
        nhwc = self.preprocessing.layout == "NHWC"
        return cast("Pixels", y.swapaxes(1, 3).swapaxes(2, 3) if nhwc else y)

    def pixel_limits(self, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the tensor values of pixels 0 and 255, each float32 (1, C, 1, 1).

        Of values that are no image they have the form (1, 1, H or 1, W or 1).
        """
        if not self.is_image:
            p = self.preprocessing
            ends = np.array([p.range(feature) for feature in range(len(p.mean))], np.float32)
            rows = (1, 1, -1, 1) if p.layout == "NCHW" else (1, 1, 1, -1)
            return ends[:, 0].reshape(rows), ends[:, 1].reshape(rows)
        pairs = np.array([self.preprocessing.range(c) for c in range(channels)], np.float32)
        low, high = pairs.T.reshape(2, 1, channels, 1, 1)
        return low, high


def _reversed(pixels: Any) -> Any:
    """Return the channels, the last axis, in the opposite order."""
    return pixels[..., list(range(pixels.shape[-1]))[::-1]]


@overload
def round_to_pixels(values: NDArray[np.floating]) -> NDArray[np.uint8]: ...
@overload
def round_to_pixels(values: Pixels) -> Pixels: ...
def round_to_pixels(values: Any) -> Any:
    """Return the nearest pixels, uint8, of numpy or torch values from 0 to 255."""
    pixels = values.round().clip(0, 255)
    return pixels.astype(np.uint8) if isinstance(pixels, np.ndarray) else pixels.byte()


def _as_float32(pixels: Any) -> Any:
    return pixels.astype(np.float32) if isinstance(pixels, np.ndarray) else pixels.float()


def _constant(values: tuple[float, ...], like: Any) -> Any:
    """Return `values` as float32 (C,) or (1,), of the kind and on the device of `like`."""
    if isinstance(like, np.ndarray):
        return np.array(values, np.float32)
    return like.new_tensor(values)


def _contiguous(x: Any) -> Any:
    return np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x.contiguous()


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
