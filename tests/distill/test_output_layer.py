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
from dfqonnx.distill import distill as lesson
from dfqonnx.distill import distill as train
from dfqonnx.distill import output_layer as closing
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.distill import distill
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.distill.output_layer import last_layers, refit_output_layer
from dfqonnx.fakequant.student import Student
from tests.distill.conftest import INPUTS

Tiny = tuple[Program, QuantizationPlan]


@pytest.fixture
def pool(images: np.ndarray) -> ImagePool:
    return ImagePool(images, INPUTS, holdout=64, context=RunContext())


@pytest.fixture
def ready(student: Student, pool: ImagePool) -> Student:
    student.initialize(pool.batches(pool.train, 64))
    return student


def closed(program: Program, student: Student, pool: ImagePool, *damping: float) -> Agreement:
    target = ProgramModule(program, taps=student.features, channels_last=True)
    return refit_output_layer(
        student, program, pool.batches(pool.train, 64), batches=-(-len(pool.train) // 64),
        damping=damping, seed=0,
        agreement=lambda: measure_agreement(student, target, pool.batches(pool.held, 64)),
    )  # fmt: skip


def test_a_last_layer_is_one_that_nothing_but_shapes_follow(tiny: Tiny, student: Student) -> None:
    assert [op.site.node for op in last_layers(student, tiny[0])] == ["fc"]
    relu = dataclasses.replace(tiny[0], training_outputs=("r1",), logits="r1")
    assert last_layers(student, relu) == []


def test_a_spoilt_last_layer_is_mended_and_nothing_else_moves(
    tiny: Tiny, ready: Student, pool: ImagePool
) -> None:
    target = ProgramModule(tiny[0], taps=ready.features, channels_last=True)
    fine = measure_agreement(ready, target, pool.batches(pool.held, 64))
    before = ready.save_state()
    (last,) = last_layers(ready, tiny[0])
    with torch.no_grad():  # a walk of half a code
        noise = torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(1))
        last.weight.add_(0.5 * noise * last.steps()[:, None])
    spoilt = measure_agreement(ready, target, pool.batches(pool.held, 64))
    found = closed(tiny[0], ready, pool, 0.1, 1.0)
    assert found.better_than(spoilt)
    assert found.better_than(fine)  # the solution also makes up for what comes before it
    assert found == measure_agreement(ready, target, pool.batches(pool.held, 64))
    moved = [k for k, v in ready.save_state().items() if not torch.equal(v, before[k])]
    assert moved
    assert all(name.endswith(":fc") for name in moved)


def test_a_solution_that_agrees_less_is_not_taken(
    tiny: Tiny, ready: Student, pool: ImagePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(op: torch.nn.Module, *_: object, **__: object) -> None:
        op.get_parameter("weight").zero_()

    before = ready.save_state()
    monkeypatch.setattr(closing, "set_solution", spoil)
    closed(tiny[0], ready, pool, 0.3)
    assert all(torch.equal(value, before[name]) for name, value in ready.save_state().items())


def test_every_damping_starts_from_the_teacher(
    tiny: Tiny, ready: Student, pool: ImagePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []
    real = closing.set_solution

    def watched(op: torch.nn.Module, *args: torch.Tensor, damping: float) -> None:
        starts.append(op.get_parameter("weight").clone())
        real(op, *args, damping=damping)  # type: ignore[arg-type]

    monkeypatch.setattr(closing, "set_solution", watched)
    closed(tiny[0], ready, pool, 0.1, 1.0)
    assert len(starts) == 2
    assert all(torch.equal(start, tiny[0].tensors["w2"]) for start in starts)


@pytest.mark.parametrize(("steps", "closes"), [(None, True), (3, False), (0, False)])
def test_it_belongs_to_schedules_that_are_left_open(
    tiny: Tiny,
    student: Student,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    steps: int | None,
    closes: bool,
) -> None:
    calls = []
    real = lesson.refit_output_layer

    def watched(*args: object, **given: object) -> Agreement:
        calls.append(given["batches"])
        return real(*args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(lesson, "refit_output_layer", watched)
    monkeypatch.setattr(train, "default_steps", lambda *_, **__: 2)
    spec = DistillationConfig(steps=steps, batch_size=128, holdout_images=64)
    found = distill(
        tiny[0], student, images, spec=spec, equalization=EqualizationConfig(), inputs=INPUTS,
        context=RunContext(),
    )  # fmt: skip
    plain = distill(
        tiny[0], Student(*tiny), images, spec=dataclasses.replace(spec, steps=0),
        equalization=EqualizationConfig(), inputs=INPUTS, context=RunContext(),
    )  # fmt: skip
    assert found.agreement_before == plain.agreement_before  # smaller batches begin with training
    count = len(images) - 64
    assert calls == ([-(-count // 64)] if closes else [])
    assert found.seen == {None: 2 * 64, 3: 3 * 128, 0: 0}[steps]  # open: batches of 64
