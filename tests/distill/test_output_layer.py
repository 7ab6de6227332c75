"""The last layers solved anew after training."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill import distill as distill_module
from dfqonnx.distill import output_layer as output_layer_module
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.distill import Distilled, distill
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.distill.output_layer import find_output_layers, refit_output_layer
from dfqonnx.equalization.equalize import EqualizedNetwork
from dfqonnx.fakequant.student import Student
from tests.distill.conftest import INPUTS, synthetic

Tiny = tuple[Program, QuantizationPlan]


@pytest.fixture
def pool(images: np.ndarray) -> ImagePool:
    return ImagePool(images, INPUTS, holdout=64, context=RunContext())


@pytest.fixture
def ready(student: Student, pool: ImagePool) -> Student:
    student.initialize(pool.batches(pool.train, 64))
    return student


def refit(program: Program, student: Student, pool: ImagePool, *damping: float) -> Agreement:
    teacher = ProgramModule(program, taps=student.features, channels_last=True)
    config = DistillationConfig(batch_size=64, gptq_damping=damping)
    return refit_output_layer(student, teacher, pool, config=config, seed=0)


def test_a_last_layer_is_one_that_nothing_but_shapes_follow(tiny: Tiny, student: Student) -> None:
    assert [op.spec.node for op in find_output_layers(student, tiny[0])] == ["fc"]
    relu = dataclasses.replace(tiny[0], training_outputs=("r1",), logits="r1")
    assert find_output_layers(student, relu) == []


def test_a_spoilt_last_layer_is_mended_and_nothing_else_moves(
    tiny: Tiny, ready: Student, pool: ImagePool
) -> None:
    teacher = ProgramModule(tiny[0], taps=ready.features, channels_last=True)
    fine = measure_agreement(ready, teacher, pool.batches(pool.held_out, 64))
    before = ready.save_state()
    (last,) = find_output_layers(ready, tiny[0])
    with torch.no_grad():  # a walk of half a code
        noise = torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(1))
        last.weight.add_(0.5 * noise * last.scales()[:, None])
    spoilt = measure_agreement(ready, teacher, pool.batches(pool.held_out, 64))
    found = refit(tiny[0], ready, pool, 0.1, 1.0)
    assert found.better_than(spoilt)
    assert found.better_than(fine)  # the solution also makes up for what comes before it
    assert found == measure_agreement(ready, teacher, pool.batches(pool.held_out, 64))
    moved = [k for k, v in ready.save_state().items() if not torch.equal(v, before[k])]
    assert moved
    assert all(name.endswith(":fc") for name in moved)


def test_a_solution_that_agrees_less_is_not_taken(
    tiny: Tiny, ready: Student, pool: ImagePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(op: torch.nn.Module, *_: object, **__: object) -> None:
        op.get_parameter("weight").zero_()

    before = ready.save_state()
    monkeypatch.setattr(output_layer_module, "refit_layer", spoil)
    refit(tiny[0], ready, pool, 0.3)
    assert all(torch.equal(value, before[name]) for name, value in ready.save_state().items())


def test_every_damping_starts_from_the_teacher(
    tiny: Tiny, ready: Student, pool: ImagePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []
    real = output_layer_module.refit_layer

    def watched(op: torch.nn.Module, *args: torch.Tensor, damping: float) -> None:
        starts.append(op.get_parameter("weight").clone())
        real(op, *args, damping=damping)  # type: ignore[arg-type]

    monkeypatch.setattr(output_layer_module, "refit_layer", watched)
    refit(tiny[0], ready, pool, 0.1, 1.0)
    assert len(starts) == 2
    assert all(torch.equal(start, tiny[0].tensors["w2"]) for start in starts)


@pytest.mark.parametrize(("steps", "refits"), [(None, True), (3, False), (0, False)])
def test_it_belongs_to_schedules_that_are_left_open(
    tiny: Tiny,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    steps: int | None,
    refits: bool,
) -> None:
    batch_sizes = []
    real = distill_module.refit_output_layer

    def watched(*args: object, config: DistillationConfig, seed: int) -> Agreement:
        batch_sizes.append(config.batch_size)
        return real(*args, config=config, seed=seed)  # type: ignore[arg-type]

    monkeypatch.setattr(distill_module, "refit_output_layer", watched)
    monkeypatch.setattr(distill_module, "default_steps", lambda *_, **__: 2)

    def run(steps: int | None) -> Distilled:
        return distill(
            EqualizedNetwork(*tiny),
            Student(*tiny),
            synthetic(images),
            config=DistillationConfig(steps=steps, batch_size=128, holdout_images=64),
            equalization=EqualizationConfig(),
            inputs=INPUTS,
            context=RunContext(),
        )

    found, plain = run(steps), run(0)
    assert found.agreement_before == plain.agreement_before  # smaller batches begin with training
    assert batch_sizes == ([64] if refits else [])
    assert found.images_seen == {None: 2 * 64, 3: 3 * 128, 0: 0}[steps]  # open: batches of 64
