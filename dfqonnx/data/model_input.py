"""Pixels to the tensor that the model reads.

tensor = (pixels / scale - mean) / std        mean and std in the model's channel order
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.errors import UsageError


def to_tensor(
    pixels: NDArray[np.uint8], spec: InputFormat, *, shape: Sequence[int | None] | None = None
) -> NDArray[np.float32]:
    """Return uint8 `pixels` (N, H, W, C), channels RGB or gray, as the model's input tensor.

    Args:
        pixels: images.
        spec: how the model reads them.
        shape: the input's shape without the batch axis, for models that read no image.

    Raises:
        UsageError: `spec` has other channels than the pixels.
    """
    channels = pixels.shape[-1]
    if len(spec.mean) not in {1, channels}:
        raise UsageError(
            f"preprocess {spec.name}: mean and std have {len(spec.mean)} values, the images have"
            f" {channels} channels"
        )
    if spec.channels == "BGR":
        pixels = pixels[..., ::-1]
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)  # (C,) or (1,)
    tensor = (pixels.astype(np.float32) / np.float32(spec.scale) - mean) / std  # (N, H, W, C)
    if spec.layout == "NCHW":
        tensor = tensor.transpose(0, 3, 1, 2)  # (N, C, H, W)
    if shape is not None and len(shape) != 3:
        tensor = tensor.reshape(len(tensor), *(-1 if d is None else d for d in shape))
    return np.ascontiguousarray(tensor, dtype=np.float32)


def image_shape(shape: Sequence[int | None], spec: InputFormat) -> tuple[int, int, int]:
    """Return (height, width, channels) of the images of a model.

    Args:
        shape: of the model's input without the batch axis.
        spec: how the model reads pixels.

    Raises:
        UsageError: the input is no image of a fixed size, or `spec` does not fit it.
    """
    text = "x".join("?" if d is None else str(d) for d in shape)
    fixed = [d for d in shape if d is not None]
    if len(shape) != 3 or len(fixed) != 3:
        raise UsageError(f"the model's input {text} is no image of a fixed size")
    height, width, channels = fixed if spec.layout == "NHWC" else (*fixed[1:], fixed[0])
    colors = 1 if spec.channels == "gray" else channels
    if len(spec.mean) not in {1, channels} or colors != channels or channels > 4:
        raise UsageError(
            f"preprocess {spec.name}: {spec.channels}, {spec.layout} and {len(spec.mean)} means do"
            f" not fit the model's input {text}, read as {channels} channels; check layout and"
            " channels"
        )
    return height, width, channels
