from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfqonnx.config.synthesis import (
    CoTrainingConfig,
    GeneratorConfig,
    PixelOptimizationConfig,
    SynthesisConfig,
)
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat, Preprocessing
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.errors import UsageError
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.synthesis.bn_statistics import BatchNormTargets, surrogate_statistics
from dfqonnx.synthesis.budget import MORE, POOL_BYTES, TeacherCost, measure_cost, plan_synthesis
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from tests.synthesis.tiny import program, statistics_kl, tiny

SPEC = SynthesisConfig(
    images=32, batch_size=16, pixels=PixelOptimizationConfig(first_batch_steps=6, batch_steps=3)
)
PREPROCESSING = PRESETS["cifar10"]
INPUTS = InputFormat(PREPROCESSING, (3, 16, 16))


class Counting(SilentProgress):
    """Counts a stage's units."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done: list[int] = []

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        self.stages.append((stage, total))
        self.done.append(0)

    def advance(self, units: int = 1, **figures: float) -> None:
        self.done[-1] += units


def make(
    model: NormalizedModel,
    *,
    preprocessing: Preprocessing = PREPROCESSING,
    spec: SynthesisConfig = SPEC,
    seed: int = 0,
    progress: Progress | None = None,
) -> SyntheticImages:
    return synthesize(
        program(model),
        model.statistics,
        inputs=InputFormat(preprocessing.fitted(model.input_shape), model.input_shape),
        config=spec,
        context=RunContext(seed=seed, progress=progress or SilentProgress()),
    )


def distance(model: NormalizedModel, pixels: np.ndarray) -> float:
    targets = BatchNormTargets(model.statistics, torch.device("cpu"))
    net = ProgramModule(program(model), taps=tuple(targets.mean))
    with torch.no_grad():
        return statistics_kl(targets, net(INPUTS.to_tensor(torch.from_numpy(pixels)))[1])


def test_optimized_images_come_closer_to_the_statistics(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    start = make(model, spec=SynthesisConfig(source="dead-leaves", images=16))
    pixels = PixelOptimizationConfig(first_batch_steps=40, batch_steps=0)
    spec = SynthesisConfig(images=16, batch_size=16, pixels=pixels, dead_leaves_fraction=0.0)
    assert distance(model, make(model, spec=spec).pixels) < 0.5 * distance(model, start.pixels)


def test_the_same_seed_makes_the_same_images(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    first, again, other = make(model), make(model), make(model, seed=1)
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize(
    ("source", "stages"),
    [
        ("dead-leaves", [("synthesize", 32)]),
        ("optimized", [("synthesize", 32), ("synthesize", 9)]),
    ],
)
def test_all_that_takes_time_is_counted(
    tmp_path: Path, source: str, stages: list[tuple[str, int]]
) -> None:
    spec = SynthesisConfig(
        source=source,
        images=32,
        batch_size=16,
        dead_leaves_fraction=0.0,
        pixels=PixelOptimizationConfig(first_batch_steps=6, batch_steps=3),
    )
    counting = Counting()
    make(tiny(tmp_path), spec=spec, progress=counting)
    assert counting.stages == stages
    assert counting.done == [total for _, total in stages]


def test_statistics_may_be_absent(tmp_path: Path) -> None:
    model = tiny(tmp_path, norm=False)
    assert not model.statistics
    images = make(model)
    assert images.pixels.shape == (32, 16, 16, 3)
    assert images.source == "optimized"


def test_pseudo_statistics_are_those_of_all_images_at_once(tmp_path: Path) -> None:
    model = tiny(tmp_path, norm=False)
    pixels = torch.from_numpy(make(model).pixels)
    found = surrogate_statistics(program(model), pixels, INPUTS, batch=5, context=RunContext())
    (name,) = found
    _, taps = ProgramModule(program(model), taps=(name,))(INPUTS.to_tensor(pixels))
    values = taps[name].detach().transpose(0, 1).reshape(6, -1)
    # float32 sums over 8192 values, in another order
    np.testing.assert_allclose(found[name].mean, values.mean(1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[name].variance, values.var(1, correction=0), rtol=1e-3)


@pytest.mark.parametrize(("layout", "channels"), [("NHWC", 3), ("NCHW", 1), ("NHWC", 1)])
def test_other_layouts_and_gray_work(tmp_path: Path, layout: str, channels: int) -> None:
    model = tiny(tmp_path, layout=layout, channels=channels)
    images = make(model, preprocessing=PRESETS["minus-one-one"])
    assert images.pixels.shape == (32, 16, 16, channels)
    assert images.pixels.dtype == np.uint8


def test_gradients_reach_the_pixels_only(tmp_path: Path) -> None:
    teacher = program(tiny(tmp_path))
    before = {name: tensor.clone() for name, tensor in teacher.tensors.items()}
    make(tiny(tmp_path))
    for name, tensor in teacher.tensors.items():
        assert not tensor.requires_grad
        assert torch.equal(tensor, before[name])


def test_an_unknown_source_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"'leaf'.*dead-leaves, fields, gaussian, generator, noise, optimized"
    ):
        make(tiny(tmp_path), spec=SynthesisConfig(source="leaf"))


def test_a_size_is_counted_by_hand(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    size = measure_cost(program(model), model.input_shape)
    conv, gemm = 6 * 16 * 16 * 27, 6 * 5
    assert size == TeacherCost(conv + gemm, 6 * 16 * 16 + 5)


def test_large_models_get_fewer_steps_and_smaller_batches() -> None:
    small = plan_synthesis(SynthesisConfig(), TeacherCost(41_000_000, 200_000), (3, 32, 32))
    large = plan_synthesis(SynthesisConfig(), TeacherCost(4_000_000_000, 11_000_000), (3, 224, 224))
    assert small.images == 5120
    assert small.optimized == 1024
    assert large.batch < small.batch
    assert large.steps * large.batch < small.steps * small.batch
    assert large.first_batch_steps >= 8


def test_of_large_images_few_fit_and_a_greater_share_is_optimized() -> None:
    mobile = TeacherCost(41_000_000, 1_300_000)
    few, many = (
        plan_synthesis(SynthesisConfig(), mobile, (3, 224, 224)),
        plan_synthesis(SynthesisConfig(), mobile, (3, 128, 128)),
    )
    assert few.images == int(POOL_BYTES / (3 * 224 * 224)) < many.images
    assert few.optimized == round(MORE * 0.2 * few.images)  # a fifth as a rule
    assert many.optimized < 0.2 * many.images  # what the work allows
    assert few.steps * few.batch > 1.5 * many.steps * many.batch


def test_a_recipe_that_counts_its_images_shares_them_as_it_says() -> None:
    chosen = plan_synthesis(SynthesisConfig(images=1000), TeacherCost(1, 1), (3, 224, 224))
    assert (chosen.images, chosen.optimized) == (1000, 200)


def test_the_recipe_s_numbers_win() -> None:
    chosen = plan_synthesis(SPEC, TeacherCost(10**12, 10**9), (3, 224, 224))
    assert (chosen.images, chosen.first_batch_steps, chosen.batch_steps) == (32, 6, 3)


@pytest.mark.parametrize(
    ("kind", "place", "wrong"),
    [
        (SynthesisConfig, "synthesis.images", {"images": 1}),
        (SynthesisConfig, "synthesis.dead_leaves_fraction", {"dead_leaves_fraction": 1.5}),
        (SynthesisConfig, "synthesis.losses", {"losses": {"smooth": -1.0}}),
        (PixelOptimizationConfig, "synthesis.pixels.lr", {"lr": 0.0}),
        (PixelOptimizationConfig, "synthesis.pixels.jitter", {"jitter": 0.5}),
        (GeneratorConfig, "synthesis.generator.betas", {"betas": (0.9, 1.0)}),
        (CoTrainingConfig, "synthesis.co_training.students", {"students": 0}),
    ],
)
def test_a_spec_out_of_range_names_its_key(kind: type, place: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=place):
        kind(**wrong)
