"""Pixels to the tensor that the model reads, and back.

    tensor = (pixels / scale - mean) / std        pixels = round((tensor std + mean) scale)

Pixels are uint8 (N, H, W, C), channels RGB or gray. Mean and std are in the model's channel order.
`core/input_format` tells how large they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.core.input_format import InputFormat
from dfqonnx.errors import UsageError


def to_tensor(pixels: Tensor, spec: InputFormat, *, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return uint8 `pixels` (N, H, W, C) as the model's input tensor.

    Args:
        pixels: images.
        spec: how the model reads them.
        shape: the input's shape without the batch axis, for models that read no image.

    Raises:
        UsageError: `spec` has other channels than the pixels.
    """
    mean, std = _constants(spec, pixels.shape[-1], pixels.device)
    if spec.channels == "BGR":
        pixels = pixels.flip(-1)
    tensor = (pixels.to(torch.float32) / spec.scale - mean) / std  # (N, H, W, C)
    if spec.layout == "NCHW":
        tensor = tensor.permute(0, 3, 1, 2).contiguous()  # (N, C, H, W)
    if shape is not None and len(shape) != 3:
        tensor = tensor.reshape(len(tensor), *shape)
    return tensor


def to_pixels(tensor: Tensor, spec: InputFormat) -> Tensor:
    """Return the nearest uint8 pixels (N, H, W, C) of a tensor in the model's layout."""
    if spec.layout == "NCHW":
        tensor = tensor.permute(0, 2, 3, 1)  # (N, H, W, C)
    mean, std = _constants(spec, tensor.shape[-1], tensor.device)
    pixels = ((tensor.detach() * std + mean) * spec.scale).round().clamp(0, 255).to(torch.uint8)
    return (pixels.flip(-1) if spec.channels == "BGR" else pixels).contiguous()


def limits(spec: InputFormat, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the tensor values of pixels 0 and 255, each (1, C, 1, 1)."""
    pairs = torch.tensor([spec.range(c) for c in range(channels)], device=device)  # (C, 2)
    low, high = pairs.view(1, channels, 1, 1, 2).unbind(-1)
    return low, high


def _constants(spec: InputFormat, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    if len(spec.mean) not in {1, channels}:
        raise UsageError(
            f"preprocess {spec.name}: mean and std have {len(spec.mean)} values, the images have"
            f" {channels} channels"
        )
    return (
        torch.tensor(spec.mean, dtype=torch.float32, device=device),
        torch.tensor(spec.std, dtype=torch.float32, device=device),
    )
