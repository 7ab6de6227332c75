"""Students that train on live generators."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig, OptimizerConfig
from dfqonnx.config.synthesis import CoTrainingConfig, GeneratorConfig, SynthesisConfig
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.distill import Distilled, distill
from dfqonnx.distill.image_pool import ImagePool, TrainingBatches
from dfqonnx.equalization.equalize import EqualizedNetwork
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.generators.training import OnlineGenerators
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from tests.distill.conftest import INPUTS

CONFIG = DistillationConfig(
    steps=12, batch_size=32, holdout_images=32, gptq_damping=(), flip=False, shift=0.0, mixup=0.0,
    optimizer=OptimizerConfig(weight_lr=2e-3, scale_lr=5e-3),
)  # fmt: skip
Tiny = tuple[Program, QuantizationPlan]


def generated(tiny: Tiny, game: CoTrainingConfig, **losses: float) -> SyntheticImages:
    spec = SynthesisConfig(
        source="generator", images=128, co_training=game,
        losses=losses or {"class": 1.0, "adversarial": 1.0},  # type: ignore[arg-type]
        generator=GeneratorConfig(
            latent=8, width_multiplier=0.1, iterations=2, batch_size=16, lr=5e-3
        ),
    )  # fmt: skip
    return synthesize(tiny[0], {}, inputs=INPUTS, config=spec, context=RunContext())


def run(
    tiny: Tiny, images: SyntheticImages, config: DistillationConfig = CONFIG
) -> tuple[Student, Distilled]:
    student = Student(*tiny)
    done = distill(
        EqualizedNetwork(*tiny), student, images, config=config,
        equalization=EqualizationConfig(), inputs=INPUTS, context=RunContext(),
    )  # fmt: skip
    return student, done


def alive(images: SyntheticImages) -> OnlineGenerators:
    assert images.generators is not None
    return images.generators


def moved(images: SyntheticImages, before: dict[str, np.ndarray]) -> bool:
    after = alive(images).state()
    return not np.array_equal(after["0.linear.weight"], before["0.linear.weight"])


@pytest.mark.parametrize(("steps", "learns"), [(4, True), (0, False)])
def test_a_generator_learns_on_only_where_the_recipe_says(
    tiny: Tiny, steps: int, learns: bool
) -> None:
    images = generated(tiny, CoTrainingConfig(opponent="student", student_steps=steps, redraw=True))
    before = dict(alive(images).state())
    tensors = {name: tensor.clone() for name, tensor in tiny[0].tensors.items()}
    run(tiny, images)
    assert moved(images, before) == learns
    assert all(torch.equal(tensors[name], t) for name, t in tiny[0].tensors.items())


def test_the_generator_steps_once_for_so_many_student_steps(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = generated(tiny, CoTrainingConfig(opponent="student", student_steps=5))
    told: list[tuple[int, float]] = []

    def play(self: OnlineGenerators, opponents: list[object], *, done: float) -> dict[str, float]:
        told.append((len(opponents), done))
        return {}

    monkeypatch.setattr(OnlineGenerators, "co_train", play)
    run(tiny, images)
    assert told == [(1, 0.0), (1, 5 / 12), (1, 10 / 12)]


def test_a_frozen_generator_s_images_are_a_pool_unless_fresh_ones_are_asked_for(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = OnlineGenerators.draw

    def watched(self: OnlineGenerators, count: int, generator: torch.Generator) -> object:
        drawn.append(count)
        return draw(self, count, generator)

    pool, fresh = (
        generated(tiny, CoTrainingConfig()),
        generated(tiny, CoTrainingConfig(redraw=True)),
    )
    monkeypatch.setattr(OnlineGenerators, "draw", watched)
    run(tiny, pool)
    assert not drawn
    run(tiny, fresh)
    assert drawn == [32] * 12


def test_the_student_that_agrees_best_is_kept(tiny: Tiny) -> None:
    config = dataclasses.replace(CONFIG, steps=30)
    one, many = CoTrainingConfig(student_steps=10), CoTrainingConfig(student_steps=10, students=3)
    alone = run(tiny, generated(tiny, one, **{"class": 1.0}), config)[1]
    three = run(tiny, generated(tiny, many, **{"class": 1.0}), config)[1]
    assert alone.agreement_before == three.agreement_before
    # the first of three sees what the one alone sees: the best cannot be worse on the same images
    assert three.agreement_after.distance <= alone.agreement_after.distance + 1e-9


def test_training_against_a_generator_brings_the_student_closer(tiny: Tiny) -> None:
    config = dataclasses.replace(CONFIG, steps=60)
    done = run(
        tiny, generated(tiny, CoTrainingConfig(opponent="student", student_steps=5)), config
    )[1]
    assert done.kept
    assert done.agreement_after.distance < done.agreement_before.distance


@pytest.mark.parametrize(("mixup", "told"), [(0.0, True), (0.5, False)])
def test_live_batches_carry_the_classes_asked_for_unless_images_are_mixed(
    tiny: Tiny, mixup: float, told: bool
) -> None:
    images = generated(tiny, CoTrainingConfig(redraw=True))
    pool = ImagePool(images.pixels, INPUTS, holdout=8, context=RunContext())
    config = dataclasses.replace(CONFIG, mixup=mixup, flip=True, shift=0.2)
    batch = next(TrainingBatches(pool, alive(images), config, torch.Generator().manual_seed(0)))
    assert batch.x.shape == (32, 3, 8, 8)
    assert not batch.x.requires_grad
    assert (batch.labels is not None) == told
    pooled = next(TrainingBatches(pool, None, config, torch.Generator().manual_seed(0)))
    assert pooled.x.shape == (32, 3, 8, 8)
    assert pooled.labels is None
