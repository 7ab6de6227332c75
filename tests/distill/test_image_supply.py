"""Few images are made where eight bits need no more, and all of them where they do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import dfqonnx
from dfqonnx.config.effort import EFFORTS, apply_effort
from dfqonnx.config.recipe import Recipe
from dfqonnx.core.context import RunContext
from dfqonnx.core.quantization import BitWidths
from dfqonnx.distill import distill
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.workflows.image_supply import FEW, ImageSupply, choose_few
from tests.cli.networks import balanced_classifier

W8A8, W4A8, W8A4 = (BitWidths.parse(text) for text in ("w8a8", "w4a8", "w8a4"))
PLAN = SynthesisPlan(images=2, optimized=0, batch=2, first_batch_steps=0, batch_steps=0)


def graph_of(path: Path) -> bytes:
    return onnx.load(path).graph.SerializeToString()  # the metadata name the recipe


def recipe(**synthesis: object) -> Recipe:
    return Recipe(synthesis=dfqonnx.SynthesisConfig(**synthesis))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chosen", "bits", "few"),
    [
        (recipe(), W8A8, FEW),
        (recipe(source="optimized", budget_scale=0.5), W8A8, 0.5 * FEW),
        (recipe(), W4A8, None),
        (recipe(), W8A4, None),
        (apply_effort(recipe(), "quick", budget=None), W4A8, EFFORTS["quick"].images * FEW),
        (recipe(images=64), W8A8, None),
        (recipe(source="dead-leaves"), W8A8, None),
        (replace(recipe(), distillation=dfqonnx.DistillationConfig(steps=0)), W8A8, None),
    ],
)
def test_few_are_tried_where_a_recipe_leaves_eight_bits_open(
    chosen: Recipe, bits: BitWidths, few: float | None
) -> None:
    assert choose_few(chosen, bits, None) == few
    assert choose_few(chosen, bits, 60.0) is None


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
    fewer = replace(recipe(budget_scale=0.2 * FEW), distillation=untrained)
    few = dfqonnx.quantize(teacher, 8, preprocess="zero-one", recipe=fewer, out=tmp_path / "few")
    count, fewest = found.report.images.count, few.report.images.count
    assert (count == fewest) == (steps == 0)
    assert count >= fewest
    assert (graph_of(found.student) == graph_of(few.student)) == (steps == 0)
    training = found.report.training
    assert training is not None
    assert training.steps == steps
