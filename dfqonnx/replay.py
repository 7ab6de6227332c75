"""What the torch student computes on the images that its exported file is compared on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.fakequant.student import Student
from dfqonnx.spec.inputs import InputSpec
from dfqonnx.synth.pixels import to_tensor
from dfqonnx.validate.data import EvalData
from dfqonnx.validate.parity import TorchRun
from dfqonnx.validate.validation import PARITY_IMAGES, Validation

_CODES_BATCH, _CLASS_BATCH = 32, 128


@torch.no_grad()
def replay(
    student: Student, pixels: NDArray[np.uint8], inputs: InputSpec, *, shape: tuple[int, ...]
) -> TorchRun | None:
    """Return codes and logits of the first `PARITY_IMAGES` of `pixels` (N, H, W, C).

    The student is left on the CPU. None without images.
    """
    if not len(pixels):
        return None
    student.to("cpu").eval()
    codes: dict[str, list[NDArray[np.uint8]]] = {}
    logits = []
    for part in torch.split(torch.from_numpy(pixels[:PARITY_IMAGES]), _CODES_BATCH):
        x = to_tensor(part, inputs, shape=shape)
        for name, values in student.codes(x).items():
            codes.setdefault(name, []).append(values)
        logits.append(student(x)[0].numpy())
    joined = {name: np.concatenate(parts) for name, parts in codes.items()}
    return TorchRun(joined, np.concatenate(logits))


@torch.no_grad()
def same_classes(
    student: Student,
    data: EvalData | None,
    found: Validation,
    inputs: InputSpec,
    *,
    shape: tuple[int, ...],
) -> float | None:
    """Return the share of evaluation images that torch student and deployed file class alike.

    None without evaluation data, or where the output holds no classes.
    """
    if data is None or found.evaluation is None or found.evaluation.classes is None:
        return None
    student.to("cpu").eval()
    chosen = [
        student(to_tensor(torch.from_numpy(pixels), inputs, shape=shape))[0].argmax(1).numpy()
        for pixels, _ in data.batches(_CLASS_BATCH)
    ]
    return float((np.concatenate(chosen) == np.array(found.evaluation.classes.student)).mean())
