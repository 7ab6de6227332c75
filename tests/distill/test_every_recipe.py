"""Every shipped recipe, at each of its scales, with its numbers cut down: images, then training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from dfqonnx.config.recipe import Recipe, read_recipe, recipe_folder, recipe_scales
from dfqonnx.convert.importer import to_program
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.distill.distill import distill
from dfqonnx.equalization.equalize import equalize
from dfqonnx.fakequant.student import Student
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents
from dfqonnx.synthesis.synthesize import synthesize
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.synthesis.tiny import tiny

RECIPES = [
    (path.stem, scale)
    for path in sorted(recipe_folder().glob("*.yaml"))
    for scale in recipe_scales(path.stem) or (None,)
]


def cut(recipe: Recipe) -> Recipe:
    """The recipe with few images and steps; what it does stays."""
    few = dataclasses.replace
    synth, training = recipe.synthesis, recipe.distillation
    return few(
        recipe,
        synthesis=few(
            synth,
            images=24,
            batch_size=12,
            pixels=few(synth.pixels, first_batch_steps=3, batch_steps=2),
            generator=few(
                synth.generator,
                iterations=2,
                warmup_iterations=1,
                batch_size=10,
                width_multiplier=0.1,
                latent=8,
            ),
        ),
        distillation=few(
            training,
            steps=0 if training.steps == 0 else 3,
            batch_size=8,
            holdout_images=4,
            calibration_images=8,
        ),
    )


@pytest.mark.parametrize(("name", "scale"), RECIPES)
def test_a_recipe_makes_images_and_a_student_and_leaves_the_teacher_alone(
    name: str, scale: str | None, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    recipe = cut(read_recipe(name, scale=scale))
    model = tiny(tmp_path)
    teacher = to_program(model)
    before = {key: value.clone() for key, value in teacher.tensors.items()}
    known = {key: value.mean.copy() for key, value in model.statistics.items()}
    inputs, context = InputFormat(PRESETS["cifar10"], model.input_shape), RunContext()
    sites = place_quantizers(
        model, QuantizationConfig(BitWidths(4, 4)), ONNXRUNTIME_CPU, input_signed=inputs.signed
    )
    against = make_fixed_opponents(
        teacher, sites, spec=recipe.synthesis, inputs=inputs, context=context
    )
    images = synthesize(
        teacher,
        model.statistics,
        inputs=inputs,
        config=recipe.synthesis,
        context=context,
        opponents=against,
    )
    assert images.pixels.shape == (24, 16, 16, 3)
    assert images.divergence is not None
    assert math.isfinite(images.divergence)
    made = equalize(
        teacher,
        sites,
        model.statistics,
        spec=recipe.equalization,
        inputs=inputs,
        progress=SilentProgress(),
    )
    student = Student(made.program, made.plan)
    done = distill(
        made,
        student,
        images,
        config=recipe.distillation,
        equalization=recipe.equalization,
        inputs=inputs,
        context=context,
    )
    assert done.steps == recipe.distillation.steps
    assert "finite" not in done.reason
    for key, value in teacher.tensors.items():
        assert torch.equal(value, before[key]), key
    for key, value in model.statistics.items():
        assert (value.mean == known[key]).all(), key
