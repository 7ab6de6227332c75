"""The drop that nobody measured: settled for a run and for `dfqonnx validate`. Needs no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.estimate.instrument import MOST_REAL, Estimate, estimate_drop
from dfqonnx.graph.model import Model
from dfqonnx.spec.imagesize import image_size
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.validate.unlabelled import open_images


def open_real(path: Path | None, model: Model, inputs: InputSpec) -> NDArray[np.uint8] | None:
    """Return real images (N, H, W, C) without labels, spread over all that `path` holds.

    Args:
        path: folder or npz of `--images`; None gives None.
        model: the teacher's graph.
        inputs: how pixels become its input.

    Raises:
        UsageError: missing, empty, of another form, or the model reads no images.
    """
    if path is None:
        return None
    found, count = open_images(path, image_size(model.input_shape, inputs))
    chosen = np.linspace(0, count - 1, min(count, MOST_REAL)).astype(int)
    return np.concatenate([found.read(int(at), int(at) + 1) for at in chosen])


def estimate(
    teacher: Path,
    student: Path,
    model: Model,
    inputs: InputSpec,
    *,
    real: NDArray[np.uint8] | None = None,
) -> Estimate:
    """Return the estimated drop of a student, or why it cannot be told.

    Args:
        teacher: float file.
        student: quantized file.
        model: the teacher's graph.
        inputs: how pixels become its input.
        real: images of `open_real`.
    """
    is_image = len(model.input_shape) == 3
    size = image_size(model.input_shape, inputs) if is_image else None
    return estimate_drop(teacher, student, inputs=inputs, size=size, real=real)
