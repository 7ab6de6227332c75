"""The guard on dead leaves: its distances, and its tolerance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.agreement import measure_agreement
from dfqonnx.distill.divergence_guard import DivergenceGuard, image_distances
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.fakequant.student import Student
from tests.distill.conftest import INPUTS

Tiny = tuple[Program, QuantizationPlan]


@pytest.fixture
def guard(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> DivergenceGuard:
    """A guard that found every image at a distance of 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    pool = ImagePool(pixels, INPUTS, holdout=8, context=RunContext())
    monkeypatch.setattr(
        DivergenceGuard, "_distances", lambda self, student: torch.ones(100).double()
    )
    student, teacher = Student(*tiny), ProgramModule(tiny[0])
    return DivergenceGuard(student, teacher, pool, images=pool.held_out, batch_size=8)


@pytest.mark.parametrize(
    ("mean", "rejects"),
    [
        # with a deviation of 1 over 100 images, 1.645 of them are 0.1645
        (-0.5, False),
        (0.0, False),
        (0.15, False),
        (0.18, True),
    ],
)
def test_what_chance_makes_of_few_images_rejects_nothing(
    tiny: Tiny,
    guard: DivergenceGuard,
    monkeypatch: pytest.MonkeyPatch,
    mean: float,
    rejects: bool,
) -> None:
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    noise = (noise - noise.mean()) / noise.std()
    monkeypatch.setattr(DivergenceGuard, "_distances", lambda self, student: 1 + mean + noise)
    assert guard.rejects(Student(*tiny)) == rejects


def test_a_small_change_on_every_image_is_beyond_chance_and_no_number_is(
    tiny: Tiny, guard: DivergenceGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for after, rejects in ((1.001, True), (0.999, False), (float("nan"), True)):
        monkeypatch.setattr(
            DivergenceGuard,
            "_distances",
            lambda self, student, after=after: torch.full((100,), after).double(),
        )
        assert guard.rejects(Student(*tiny)) == rejects


def test_distances_of_images_have_the_mean_that_agreement_measures(tiny: Tiny) -> None:
    student, teacher = Student(*tiny), ProgramModule(tiny[0])
    x = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    student.initialize([x])
    each = image_distances(student, teacher, x.split(8))
    assert each.shape == (20,)
    found = measure_agreement(student, teacher, x.split(8))
    assert float(each.mean()) == pytest.approx(found.distance, rel=1e-4)  # float32 there
