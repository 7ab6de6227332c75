"""Evaluation data: inputs of a model with labels of any task, or without; never trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.image_files import ImageSource
from dfqonnx.data.label_types import Labels


@runtime_checkable
class TensorSource(Protocol):
    """Reads what the model takes by position."""

    def read_tensor(self, start: int, stop: int, inputs: InputFormat) -> NDArray[Any]:
        """Return the model's input (n, *shape) for inputs `start` to `stop`."""


@runtime_checkable
class PixelSource(Protocol):
    """Reads images by position."""

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop` as uint8 (n, H, W, C)."""


@dataclass(frozen=True, kw_only=True)
class EvalData:
    """Inputs with their labels."""

    source: Path
    count: int  # of inputs
    labels: Labels | None  # None where there are none
    images: ImageSource | TensorSource
    note: str = ""  # what was done to the images to fit the model; empty when nothing
    class_names: tuple[str, ...] = ()  # in label order; empty where nobody says

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.count

    @property
    def class_labels(self) -> NDArray[np.int64] | None:
        """The labels (N,) where they are one class an input."""
        return self.labels if isinstance(self.labels, np.ndarray) else None

    def read_tensor(self, start: int, stop: int, inputs: InputFormat) -> NDArray[Any]:
        """Return the model's input (n, *shape) for inputs `start` to `stop`."""
        if isinstance(self.images, TensorSource):
            return self.images.read_tensor(start, stop, inputs)
        return inputs.to_tensor(self.images.read(start, stop))

    def read_pixels(self, start: int, stop: int) -> NDArray[np.uint8] | None:
        """Return images `start` to `stop` (n, H, W, C); None where the inputs are no images."""
        return self.images.read(start, stop) if isinstance(self.images, PixelSource) else None

    def tensors(self, inputs: InputFormat, size: int = 64) -> Iterator[NDArray[Any]]:
        """Iterate over the model's inputs, `size` at a time."""
        for start in range(0, self.count, size):
            yield self.read_tensor(start, min(start + size, self.count), inputs)
