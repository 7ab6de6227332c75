"""Terms with a memory, in a generator's training against models/resnet20.onnx."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dfqonnx.config.recipe import read_recipe
from dfqonnx.config.synthesis import SynthesisConfig
from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.progress import SilentProgress
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.synthesis.generators.training import OnlineGenerators
from dfqonnx.synthesis.sources.generator import find_classifier_input
from dfqonnx.synthesis.synthesize import synthesize

STEPS = 60


class Told(SilentProgress):
    """Keeps the figures of every step."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def advance(self, units: int = 1, **figures: float) -> None:
        self.figures.append(figures)


@pytest.fixture(scope="module")
def model(root: Path) -> NormalizedModel:
    torch.set_num_threads(1)
    return normalize(load(root / "models" / "resnet20.onnx"))


def recipe(name: str, **losses: object) -> SynthesisConfig:
    """The recipe's images with a small generator, few steps and other settings of its losses."""
    spec = read_recipe(name).synthesis
    terms = {term.name: term.written for term in spec.losses if term.weight} | losses
    return dataclasses.replace(
        spec,
        images=16,
        painted_fraction=0.0,
        losses=terms,  # type: ignore[arg-type]
        generator=dataclasses.replace(
            spec.generator, width_multiplier=0.1, batch_size=40, iterations=STEPS, lr=5e-3
        ),
    )


def train(model: NormalizedModel, spec: SynthesisConfig) -> tuple[OnlineGenerators, Told]:
    told = Told()
    made = synthesize(
        to_program(model),
        model.statistics,
        inputs=InputFormat(PRESETS["cifar10"], model.input_shape),
        config=spec,
        context=RunContext(progress=told),
    )
    assert made.generators is not None
    return made.generators, told


@torch.no_grad()
def angles_within_classes(model: NormalizedModel, generators: OnlineGenerators) -> float:
    """The mean angle of features to the mean direction of their own class, in radians."""
    name = find_classifier_input(to_program(model))
    assert name is not None
    net = ProgramModule(to_program(model), taps=(name,))
    drawn = generators.draw(200, torch.Generator().manual_seed(7))
    assert drawn.labels is not None
    unit = functional.normalize(net(drawn.x)[1][name], dim=1)
    found = []
    for c in range(10):
        own = unit[drawn.labels == c]
        found.append(functional.cosine_similarity(own, own.mean(0, keepdim=True)).acos().mean())
    return float(torch.stack(found).mean())


@pytest.mark.slow
def test_the_margin_acts_at_every_step_and_widens_classes(model: NormalizedModel) -> None:
    _, told = train(model, recipe("lrq"))
    values = [figures["margin"] for figures in told.figures if "margin" in figures]
    assert len(values) == STEPS
    assert min(values) > 0
    # the same seed, generator and steps, with a weight and an angle that let so few steps show
    strong, _ = train(model, recipe("lrq", margin={"weight": 5.0, "angle": 0.5}))
    without, _ = train(model, recipe("lrq", margin=0.0))
    assert angles_within_classes(model, strong) > 1.05 * angles_within_classes(model, without)


@pytest.mark.slow
def test_classes_are_pulled_to_centroids_once_these_begin(model: NormalizedModel) -> None:
    after = STEPS // 3
    cluster = {"weight": 0.9, "rate": 0.2, "period": 6.0, "after": after}
    _, told = train(model, recipe("clusterq", cluster=cluster))
    values = [figures["cluster"] for figures in told.figures if "cluster" in figures]
    assert max(values[:after]) == 0.0
    assert min(values) >= 0.0
    assert np.mean(values[STEPS // 2 :]) > 0.0
