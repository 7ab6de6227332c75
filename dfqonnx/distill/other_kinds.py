"""Images of other kinds, for networks that do not say what they were trained on.

BatchNormalization says what images should be, and classes say it in part. A detector whose
BatchNormalization is folded says neither: dead leaves, and images optimized from them, are all that
there is, and a student that trains on these alone may leave its teacher on all others. Pictures of
text and structured fields in equal parts join them in training as one more kind, drawn as often as
the others. More of these, which nothing is trained on, help to choose between GPTQ's candidates,
and to judge a training.

GPTQ itself sees the images of the run alone. Fitted to all kinds in equal parts, each layer by
itself errs less on kinds that nothing was fitted to, but the networks do not: on a face detector
the error is higher on three kinds of five, by 40 % on clouds, and on dead leaves it rises by 40 %
in a detector of 70 layers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization import MAX_BITS, BitWidths
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.data.text_images import text_images
from dfqonnx.distill.losses import is_classification
from dfqonnx.synthesis.synthesize import SyntheticImages

SHARE = 3  # one image of the other kinds for so many of the run
FEWEST = 32
SEED = 9_001  # beside that of the run


def needs_other_kinds(
    images: SyntheticImages,
    teacher: ProgramModule,
    inputs: InputFormat,
    bits: BitWidths,
    *,
    device: str,
) -> bool:
    """Return whether neither BatchNormalization, classes nor the user say what images should be.

    Eight bits are left alone: they are not fitted closely to anything.
    """
    if not inputs.is_image or images.own or bits.weights == MAX_BITS:
        return False
    if images.divergence is not None or images.generators is not None:
        return False
    with torch.no_grad():
        x = torch.from_numpy(inputs.to_tensor(images.pixels[:1])).to(device)
        output = teacher(x)[0]
    return not is_classification(output)


def make_other_kinds(count: int, size: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    """Return images (M, H, W, C) for a run of `count` images of one size."""
    half = max(FEWEST, count // SHARE) // 2
    text = np.stack(list(text_images(half, size, np.random.default_rng(SEED + seed))))
    fields = np.concatenate(list(structured_fields(half, size, np.random.default_rng(SEED + seed))))
    return np.concatenate([text, fields])
