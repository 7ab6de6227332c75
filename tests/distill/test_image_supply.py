"""Fewer images are made where a student needs no more, and all of them where it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import dfqonnx
from dfqonnx.config.effort import apply_effort
from dfqonnx.config.recipe import Recipe
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization import BitWidths
from dfqonnx.distill import distill
from dfqonnx.distill.schedule import expect_kl
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.workflows import image_supply
from dfqonnx.workflows.image_supply import (
    FEW,
    SOME,
    FirstImages,
    ImageSupply,
    choose_first_images,
)
from tests.cli.networks import balanced_classifier

W8A8, W4A8, W8A4 = (BitWidths.parse(text) for text in ("w8a8", "w4a8", "w8a4"))
PLAN = SynthesisPlan(images=2, optimized=0, batch=2, first_batch_steps=0, batch_steps=0)


def graph_of(path: Path) -> bytes:
    return onnx.load(path).graph.SerializeToString()  # the metadata name the recipe


def recipe(**synthesis: object) -> Recipe:
    return Recipe(synthesis=dfqonnx.SynthesisConfig(**synthesis))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "bits", "first"),
    [
        (recipe(), W8A8, FirstImages(FEW, 0.0)),
        (recipe(source="optimized", budget_scale=2.0), W8A8, FirstImages(2 * FEW, 0.0)),
        (recipe(source="optimized", budget_scale=0.5), W8A8, FirstImages(FEW, 0.0)),
        (recipe(budget_scale=FEW), W8A8, None),
        (recipe(budget_scale=0.5), W4A8, replace(SOME[0][1], work=0.5 * SOME[0][1].work)),
        (apply_effort(recipe(), "high", budget=None), W4A8, None),
        (recipe(), W4A8, SOME[0][1]),
        (recipe(), W8A4, SOME[1][1]),
        (
            apply_effort(recipe(), "quick", budget=None),
            W4A8,
            FirstImages(FEW, 0.0),
        ),
        (recipe(images=64), W8A8, None),
        (recipe(images=64), W4A8, None),
        (recipe(source="dead-leaves"), W8A8, None),
        (replace(recipe(), distillation=dfqonnx.DistillationConfig(steps=0)), W8A8, None),
    ],
)
def test_fewer_are_tried_where_a_recipe_leaves_them_open(
    chosen: Recipe, bits: BitWidths, first: FirstImages | None
) -> None:
    expected = expect_kl(bits, depthwise=False)
    assert choose_first_images(chosen, bits, None, expected_kl=expected, all_images=5120) == first
    assert choose_first_images(chosen, bits, 60.0, expected_kl=expected, all_images=5120) is None


def test_all_images_are_made_at_once_where_much_is_to_be_trained() -> None:
    for bits, depthwise in ((BitWidths(3, 3), False), (BitWidths(2, 8), False), (W8A4, True)):
        kl = expect_kl(bits, depthwise=depthwise)
        assert choose_first_images(recipe(), bits, None, expected_kl=kl, all_images=5120) is None

    def first(bits: BitWidths, kl: float | None, count: int) -> FirstImages | None:
        return choose_first_images(recipe(), bits, None, expected_kl=kl, all_images=count)

    assert first(W4A8, None, 5120) is None  # no classes
    assert first(W4A8, 0.02, 104) is None  # a large network has no more than these
    assert first(W4A8, 0.02, 5120) is not None
    assert first(W8A8, None, 104) is not None


def test_each_amount_is_made_once_and_generators_are_not_shared() -> None:
    asked: list[float | None] = []

    def make(most_work: float | None, context: RunContext) -> SyntheticImages:
        asked.append(most_work)
        online = None if most_work else [1]  # stands for generators, which learn on
        return SyntheticImages(
            pixels=np.zeros((2, 4, 4, 3), np.uint8),
            source="any",
            reason="",
            plan=PLAN,
            seconds=0.0,
            kinds=np.zeros(2, np.int64),
            generators=online,  # type: ignore[arg-type]
        )

    supply, context = ImageSupply(make), RunContext()
    assert supply.give(0.1, context) is supply.give(0.1, context)
    first, second = supply.give(None, context), supply.give(None, context)
    assert first.generators == second.generators
    assert first.generators is not second.generators
    assert asked == [0.1, None]


@pytest.mark.parametrize("steps", [0, 2])
def test_a_student_that_needs_training_gets_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr(distill, "default_steps", lambda *_, **__: steps)
    teacher = tmp_path / "small.onnx"
    balanced_classifier(teacher)
    chosen = recipe(budget_scale=0.2)
    found = dfqonnx.quantize(teacher, 8, preprocess="zero-one", recipe=chosen, out=tmp_path / "out")
    untrained = replace(chosen.distillation, steps=0)
    fewer = replace(recipe(budget_scale=FEW), distillation=untrained)
    few = dfqonnx.quantize(teacher, 8, preprocess="zero-one", recipe=fewer, out=tmp_path / "few")
    count, fewest = found.report.images.count, few.report.images.count
    assert (count == fewest) == (steps == 0)
    assert count >= fewest
    assert (graph_of(found.student) == graph_of(few.student)) == (steps == 0)
    training = found.report.training
    assert training is not None
    assert training.steps == steps


def test_a_classifier_of_narrow_weights_trains_on_some_images_where_it_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "default_steps", lambda *_, **__: 2)
    monkeypatch.setattr(image_supply, "MANY", 100)  # as many as a fifth of the work has, and fewer
    teacher = tmp_path / "small.onnx"
    balanced_classifier(teacher)
    counts = []
    for near in (100.0, 1e-9):
        monkeypatch.setattr(image_supply, "SOME", ((1.0, FirstImages(0.3, train_up_to=near)),))
        found = dfqonnx.quantize(
            teacher, "w4a8", preprocess="zero-one", recipe=recipe(budget_scale=0.2),
            out=tmp_path / f"{near}",
        )  # fmt: skip
        assert found.report.training is not None
        assert found.report.training.steps == 2
        counts.append(found.report.images.count)
    some, every = counts
    assert some == pytest.approx(0.3 * every, abs=1)
