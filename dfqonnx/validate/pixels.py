"""Pixels to the tensor that the model reads.

tensor = (pixels / scale - mean) / std        mean and std in the model's channel order
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfqonnx.errors import UsageError
from dfqonnx.spec.inputs import InputSpec


def to_tensor(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Return uint8 `pixels` (N, H, W, C), channels RGB or gray, as the model's input tensor.

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
    return np.ascontiguousarray(tensor, dtype=np.float32)
