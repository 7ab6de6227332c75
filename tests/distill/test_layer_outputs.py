"""Outputs of layers: those of teacher and student by the same names, and residual bodies."""

from __future__ import annotations

import numpy as np
import torch

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.image_pool import ImagePool, TrainingBatches
from dfqonnx.distill.layer_outputs import (
    captured_layers,
    find_bodies,
    layer_names,
    needs_layers,
)
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.generators.training import GeneratedBatch
from dfqonnx.synthesis.synthesize import FROM_TEACHER, PROCEDURAL
from tests.distill.conftest import INPUTS

Tiny = tuple[Program, QuantizationPlan]


def test_a_body_ends_in_the_layer_before_the_sum(tiny: Tiny) -> None:
    student = Student(*tiny)
    assert layer_names(student) == ("c0", "c1", "y")
    assert find_bodies(student) == ("c1",)


def test_layers_of_a_student_before_training_are_near_the_teacher_s(tiny: Tiny) -> None:
    student = Student(*tiny)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    student.initialize([x])
    teacher = ProgramModule(tiny[0], taps=layer_names(student))
    with torch.no_grad(), captured_layers(student, active=True) as found:
        logits, _ = student(x)
    wanted = teacher(x)[1]
    assert set(found) == set(wanted)
    torch.testing.assert_close(found["y"], logits)
    for name, value in found.items():
        assert value.shape == wanted[name].shape
        # four bits: steps of a tenth of the range or so; another layer's values would be off by 2
        assert (value - wanted[name]).square().mean() < 0.1 * wanted[name].var()


def test_nothing_is_kept_where_no_loss_asks(tiny: Tiny) -> None:
    student = Student(*tiny)
    with captured_layers(student, active=False) as found:
        student(torch.zeros(1, 3, 8, 8))
    assert found == {}
    assert not needs_layers(DistillationConfig())
    assert needs_layers(DistillationConfig(losses={"attention": 1.0}))  # type: ignore[arg-type]
    assert not needs_layers(DistillationConfig(losses={"layers": 0.0}))  # type: ignore[arg-type]


class FromGenerators:
    """Generators that make gray images of class 3."""

    inputs, painted_fraction = INPUTS, 0.5

    def draw(self, count: int, random: torch.Generator) -> GeneratedBatch:
        """Return `count` of them."""
        return GeneratedBatch(torch.zeros(count, *INPUTS.shape), torch.full((count,), 3))


def test_painted_images_fill_their_share_of_a_batch_without_a_class() -> None:
    pixels = np.full((64, 8, 8, 3), 255, np.uint8)
    kinds = np.where(np.arange(64) < 32, FROM_TEACHER, PROCEDURAL)
    pool = ImagePool(pixels, INPUTS, holdout=8, context=RunContext(), kinds=kinds)
    config = DistillationConfig(batch_size=10, mixup=0.0)
    batches = TrainingBatches(
        pool,
        FromGenerators(),  # type: ignore[arg-type]
        config,
        torch.Generator().manual_seed(0),
    )
    batch = next(batches)
    assert batch.labels is not None
    assert batch.labels.tolist() == [3] * 5 + [-1] * 5
    assert bool((batch.x[:5] == 0).all())
    assert float(batch.x[5:].min()) == float(batch.x[5:].max()) == 2.0  # white: (1 - 0.5) / 0.25
    state = batches.save_state()
    wanted = next(batches)
    batches.load_state(state)
    assert torch.equal(next(batches).x, wanted.x)


def test_a_pool_without_painted_images_leaves_the_whole_batch_to_generators() -> None:
    pixels = np.full((32, 8, 8, 3), 255, np.uint8)
    pool = ImagePool(pixels, INPUTS, holdout=4, context=RunContext())
    config = DistillationConfig(batch_size=6, mixup=0.0)
    batches = TrainingBatches(
        pool,
        FromGenerators(),  # type: ignore[arg-type]
        config,
        torch.Generator().manual_seed(0),
    )
    batch = next(batches)
    assert batch.labels is not None
    assert batch.labels.tolist() == [3] * 6
