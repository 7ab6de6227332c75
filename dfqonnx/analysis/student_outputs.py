"""What the torch student computes on the images that its exported file is compared on.

The untrained student is asked as well, so that a report can say what training brought.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfqonnx.core.input_format import InputFormat
from dfqonnx.data.eval_data import EvalData
from dfqonnx.evaluation.evaluate import PARITY_IMAGES, Evaluation
from dfqonnx.evaluation.parity import StudentOutputs
from dfqonnx.evaluation.statistics import Interval, wilson_interval
from dfqonnx.fakequant.student import Student
from dfqonnx.runtime.session import images_together

ALIKE_IMAGES = 1024  # on which the classes of file and student are compared
_CODES_BATCH, _CLASS_BATCH = 32, 128


@torch.no_grad()
def run_student(
    student: Student,
    pixels: NDArray[np.uint8],
    inputs: InputFormat,
    *,
    fed: Literal["float32", "float16", "bfloat16"] = "float32",
) -> StudentOutputs | None:
    """Return codes and logits of the first `PARITY_IMAGES` of `pixels` (N, H, W, C).

    The file is fed numbers of the type `fed`, so the student reads them rounded to it, and is left
    on the CPU. None without images.
    """
    if not len(pixels):
        return None
    student.to("cpu").eval()
    codes: dict[str, list[NDArray[Any]]] = {}
    logits = []
    step = images_together(pixels.shape[1:], _CODES_BATCH)
    for part in torch.split(torch.from_numpy(pixels[:PARITY_IMAGES]), step):
        x = inputs.to_tensor(part).to(getattr(torch, fed)).float()
        for name, values in student.codes(x).items():
            codes.setdefault(name, []).append(values)
        logits.append(student(x)[0].numpy())
    joined = {name: np.concatenate(parts) for name, parts in codes.items()}
    return StudentOutputs(joined, np.concatenate(logits), student.training_outputs[0])


def class_agreement(
    student: Student, data: EvalData | None, found: Evaluation, inputs: InputFormat
) -> tuple[float, int] | None:
    """Return the share of evaluation images that torch student and deployed file class alike.

    The number of images is beside it: the first `ALIKE_IMAGES`, since a fault of the file shows on
    few. None without evaluation data, or where the output holds no classes.
    """
    if data is None or found.evaluation is None or found.evaluation.classes is None:
        return None
    chosen = _classes(student, data, inputs, most=ALIKE_IMAGES)
    deployed = np.array(found.evaluation.classes.student)[: len(chosen)]
    return float((chosen == deployed).mean()), len(chosen)


def untrained_top1(
    student: Student, untrained: Mapping[str, Tensor], data: EvalData | None, inputs: InputFormat
) -> Interval | None:
    """Return the labeled accuracy, in percent, of `student` with its parameters before training.

    The student keeps those that it has. None without evaluation data that are labeled by class.
    """
    labels = None if data is None else data.class_labels
    if data is None or labels is None:
        return None
    kept = student.save_state()
    student.load_state(untrained)
    chosen = _classes(student, data, inputs)
    student.load_state(kept)
    found = wilson_interval(int((chosen == labels).sum()), len(data))
    return Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n)


@torch.no_grad()
def _classes(
    student: Student, data: EvalData, inputs: InputFormat, *, most: int | None = None
) -> NDArray[np.int64]:
    """Return the student's class of the first `most` evaluation images; it is left on the CPU."""
    student.to("cpu").eval()
    size = images_together(inputs.shape, _CLASS_BATCH)
    batches = None if most is None else -(-most // size)
    chosen = [
        student(torch.from_numpy(x).float())[0].argmax(1).numpy()
        for x in islice(data.tensors(inputs, size), batches)
    ]
    return np.concatenate(chosen)[:most]
