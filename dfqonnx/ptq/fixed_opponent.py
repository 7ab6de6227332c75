"""A student to optimize images against before any is trained: the teacher, plainly rounded.

Its scales come from dead leaves, drawn without the network. Adaptive DeepInversion (Yin et al.,
"Dreaming to Distill", CVPR 2020) asks a student in training; images are made once here, so it is
the student as it will begin.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves

IMAGES = 64


def make_fixed_opponents(
    teacher: Program,
    plan: QuantizationPlan,
    *,
    spec: SynthesisConfig,
    inputs: InputFormat,
    context: RunContext,
    alone: bool = False,
) -> tuple[Callable[[Tensor], Tensor], ...]:
    """Return the rounded network where a recipe optimizes images against it, else nothing.

    It goes from model inputs to logits; its parameters take no gradient. `alone` says that no
    student will be trained, so that a generator has none to play against either.
    """
    if not needs_fixed_opponents(spec, alone=alone):
        return ()
    generator = torch.Generator().manual_seed(context.seed)
    images = sample_dead_leaves(IMAGES, inputs.image_size, generator)
    student = Student(teacher, plan).to(context.device)
    student.initialize([inputs.to_tensor(images.to(context.device))])
    student.requires_grad_(False)
    return (lambda x: student(x)[0],)


def needs_fixed_opponents(spec: SynthesisConfig, *, alone: bool = False) -> bool:
    """Return whether images depend on a rounded network, and so on the plan of a run."""
    in_place_of_trained = (
        alone and spec.co_training.opponent == "student" and spec.weight("adversarial") > 0
    )
    return bool(spec.weight("competition")) or in_place_of_trained
