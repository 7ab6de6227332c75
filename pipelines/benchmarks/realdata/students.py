"""Students of any network, good and bad ones, made in seconds to see what can be told of them.

    plain     ranges from procedural images (fields where the network reads no image), rounding
    refit     the same, and weights refitted layer by layer (GPTQ)
    cut       every activation's range times 0.4, as if what it was set on had never driven it
    dark      ranges from images of a third of the light

They are made as any other student is, and exported; nothing of them ships.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from realdata.task import Task

from dfqonnx.convert.importer import to_program
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.data.guess_input_format import NOISE
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.gptq import gptq
from dfqonnx.synthesis.sources.dead_leaves import dead_leaves
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU

CUT, DARK = 0.4, 1 / 3
VALUES = 2**21  # numbers of all images that set ranges
MOST, FEWEST, BATCH = 24, 4, 8


@dataclass(frozen=True)
class Variant:
    """How one student is made."""

    bits: str
    method: str = "plain"

    @property
    def label(self) -> str:
        """As the page calls it."""
        return f"{self.bits} {self.method}"


VARIANTS = (
    Variant("w8a8"), Variant("w8a8", "refit"), Variant("w6a6", "refit"), Variant("w4a8", "refit"),
    Variant("w4a4", "refit"), Variant("w8a8", "cut"),
    Variant("w8a8", "dark"),
)  # fmt: skip


@cache
def open_once(model: Path, size: tuple[int, int] | None) -> NormalizedModel:
    """Return the network in normal form."""
    return open_model(model, image_size=size)


def input_format(task: Task, model: Path) -> InputFormat:
    """Return how the network reads its inputs; what is no image is read as dfqonnx does."""
    shape = open_once(model, task.size).input_shape
    return InputFormat(task.preprocess or NOISE, shape)


def make_student(task: Task, variant: Variant, model: Path, out: Path, *, seed: int = 0) -> None:
    """Write a student of a network to `out`."""
    normalized = open_once(model, task.size)
    inputs = input_format(task, model)
    plan = place_quantizers(
        normalized,
        QuantizationConfig(BitWidths.parse(variant.bits)),
        ONNXRUNTIME_CPU,
        input_signed=inputs.signed,
    )
    program = to_program(normalized)
    student, generator = Student(program, plan), torch.Generator().manual_seed(seed)
    size = inputs.image_size
    count = max(FEWEST, min(MOST, VALUES // math.prod(size)))
    if inputs.is_image:
        pixels = torch.cat(list(dead_leaves(count, size, generator)))
    else:
        fields = structured_fields(count, size, np.random.default_rng(seed))
        pixels = torch.from_numpy(np.concatenate(list(fields)))
    if variant.method == "dark":
        pixels = (pixels * DARK).round().to(torch.uint8)
    x = inputs.to_tensor(pixels)
    with torch.no_grad():
        student.initialize([x[k : k + BATCH] for k in range(0, count, BATCH)])
        if variant.method == "refit":
            gptq(student, program, x, generator=generator, damping=0.3)
        if variant.method == "cut":
            for quantizer in student.quantizers()[1:]:
                quantizer.log_scale.add_(math.log(CUT))
    write(export(normalized, plan, student.qparams()), out)
