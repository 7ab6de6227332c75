"""Generators in training: who learns from whom, and who is left alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfqonnx.config.synthesis import CoTrainingConfig, GeneratorConfig, SynthesisConfig
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat, Preprocessing
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.core.progress import SilentProgress
from dfqonnx.errors import UsageError
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.synthesis.generators.float_adversary import FloatAdversary
from dfqonnx.synthesis.generators.training import OnlineGenerators
from dfqonnx.synthesis.sources.generator import find_classifier_input, generate
from dfqonnx.synthesis.synthesis_context import SynthesisContext
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from tests.synthesis.tiny import program, tiny

CPU = torch.device("cpu")
GENERATOR = GeneratorConfig(latent=8, width_multiplier=0.1, iterations=4, batch_size=16)
SPEC = SynthesisConfig(
    source="generator",
    images=40,
    losses={"class": 1.0, "batchnorm-kl": 1.0},  # type: ignore[arg-type]
    generator=GENERATOR,
)


PLAN = SynthesisPlan(images=8, optimized=0, batch=8, first_batch_steps=0, batch_steps=0)


class Told(SilentProgress):
    """Keeps the figures of every step."""

    def __init__(self) -> None:
        self.figures: list[dict[str, float]] = []

    def advance(self, units: int = 1, **figures: float) -> None:
        self.figures.append(figures)


class Opponent(nn.Module):
    """Logits of another network on the same images."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


def make(
    model: NormalizedModel,
    spec: SynthesisConfig = SPEC,
    *,
    seed: int = 0,
    told: SilentProgress | None = None,
    opponents: tuple[Opponent, ...] = (),
) -> SyntheticImages:
    return synthesize(
        program(model), model.statistics, inputs=fitted(PRESETS["cifar10"], model), config=spec,
        context=RunContext(seed=seed, progress=told or SilentProgress()), opponents=opponents,
    )  # fmt: skip


def fitted(preprocessing: Preprocessing, model: NormalizedModel) -> InputFormat:
    return InputFormat(preprocessing.fitted(model.input_shape), model.input_shape)


def live(images: SyntheticImages) -> OnlineGenerators:
    assert images.generators is not None
    return images.generators


def changed(
    spec: SynthesisConfig = SPEC, *, co_training: CoTrainingConfig | None = None, **keys: object
) -> SynthesisConfig:
    """The spec with other keys of its generator, and another generators."""
    generator = dataclasses.replace(spec.generator, **keys)  # type: ignore[arg-type]
    return dataclasses.replace(
        spec, generator=generator, co_training=co_training or spec.co_training
    )


def test_training_lowers_the_losses(tmp_path: Path) -> None:
    told = Told()
    make(tiny(tmp_path), changed(iterations=30, lr=5e-3), told=told)
    first, last = told.figures[:5], told.figures[-5:]
    assert np.mean([f["loss"] for f in last]) < np.mean([f["loss"] for f in first])


def test_images_are_as_many_as_asked_for_and_the_seed_decides(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    first, again, other = make(model), make(model), make(model, seed=1)
    assert first.pixels.shape == (40, 16, 16, 3)
    assert first.source == "generator"
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize(("layout", "channels"), [("NHWC", 3), ("NCHW", 1)])
def test_other_layouts_and_gray_work(tmp_path: Path, layout: str, channels: int) -> None:
    model = tiny(tmp_path, layout=layout, channels=channels)
    inputs = fitted(PRESETS["zero-one"], model)
    images = synthesize(
        program(model), model.statistics, inputs=inputs, config=SPEC, context=RunContext()
    )
    assert images.pixels.shape == (40, 16, 16, channels)
    x = live(images).draw(6, torch.Generator().manual_seed(0)).x
    assert tuple(x.shape[1:]) == model.input_shape
    assert x.min() >= 0
    assert x.max() <= 1


def test_without_statistics_those_of_dead_leaves_stand_in(tmp_path: Path) -> None:
    told = Told()
    make(tiny(tmp_path, norm=False), told=told)
    assert all("batchnorm-kl" in figures for figures in told.figures)


def test_a_generator_s_step_changes_the_generator_and_nothing_else(tmp_path: Path) -> None:
    model, opponent = tiny(tmp_path), Opponent()
    teacher = program(model)
    tensors = {name: tensor.clone() for name, tensor in teacher.tensors.items()}
    known = {name: (s.mean.copy(), s.variance.copy()) for name, s in model.statistics.items()}
    opposing = [p.detach().clone() for p in opponent.parameters()]
    generators = live(make(model, dataclasses.replace(
        SPEC, losses={"adversarial": 1.0, "batchnorm-kl": 1.0}  # type: ignore[arg-type]
    )))  # fmt: skip
    before = {name: value.copy() for name, value in generators.state().items()}
    figures = generators.step((opponent,))
    assert figures["adversarial"] < 0
    after = generators.state()
    assert not np.array_equal(before["0.linear.weight"], after["0.linear.weight"])
    for name, tensor in teacher.tensors.items():
        assert torch.equal(tensor, tensors[name])
        assert tensor.grad is None
    for name, statistics in model.statistics.items():
        assert np.array_equal(statistics.mean, known[name][0])
        assert np.array_equal(statistics.variance, known[name][1])
    for parameter, old in zip(opponent.parameters(), opposing, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None


def test_the_adversarial_term_pushes_away_from_the_opponent(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, losses={"adversarial": 1.0})  # type: ignore[arg-type]
    generators = live(make(tiny(tmp_path), changed(spec, iterations=0, lr=5e-3)))
    opponent = Opponent()
    first = [generators.step((opponent,))["adversarial"] for _ in range(40)]
    assert np.mean(first[-10:]) < np.mean(first[:10])  # the divergence grows


def test_what_is_drawn_is_detached_and_comes_in_equal_shares(tmp_path: Path) -> None:
    generators = live(make(tiny(tmp_path), changed(co_training=CoTrainingConfig(generators=2))))
    drawn = generators.draw(7, torch.Generator().manual_seed(0))
    assert drawn.x.shape == (7, 3, 16, 16)
    assert not drawn.x.requires_grad
    assert drawn.labels is not None
    assert drawn.labels.shape == (7,)
    names = {name.split(".")[0] for name in generators.state()}
    assert names == {"0", "1"}
    state = generators.state()
    assert not np.array_equal(state["0.linear.weight"], state["1.linear.weight"])


def test_images_of_an_unconditional_generator_have_no_labels(tmp_path: Path) -> None:
    generators = live(make(tiny(tmp_path), changed(conditional=False)))
    assert generators.draw(4, torch.Generator()).labels is None


def test_the_first_steps_leave_opponents_out(tmp_path: Path) -> None:
    told = Told()
    spec = dataclasses.replace(SPEC, losses={"class": 1.0, "adversarial": 1.0})  # type: ignore[arg-type]
    against = CoTrainingConfig(opponent="student")
    make(
        tiny(tmp_path),
        changed(spec, co_training=against, warmup_iterations=3),
        told=told,
        opponents=(Opponent(),),
    )
    assert ["adversarial" in figures for figures in told.figures] == [False] * 3 + [True]


def test_a_float_opponent_learns_from_the_images_and_hands_no_gradient_to_the_teacher(
    tmp_path: Path,
) -> None:
    model = tiny(tmp_path)
    teacher = program(model)
    adversary = FloatAdversary(
        SynthesisContext(
            teacher=teacher,
            statistics=model.statistics,
            inputs=fitted(PRESETS["cifar10"], model),
            config=changed(co_training=CoTrainingConfig(opponent_lr=0.05)),
            plan=PLAN,
            generator=torch.Generator().manual_seed(0),
            run=RunContext(),
        )
    )
    count = sum(p.numel() for p in adversary.net.parameters())
    # conv 6x3x3x3 + 6, BatchNorm 2x6, Gemm 6x5 + 5
    assert count == 6 * 27 + 6 + 12 + 35
    x = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    goal = 2 * x.mean((2, 3)) @ torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
    losses = [adversary.step(x, goal, done=0.0) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(tensor.grad is None for tensor in teacher.tensors.values())


def test_dfqf_s_game_goes_through_the_recipe(tmp_path: Path) -> None:
    told = Told()
    spec = changed(
        dataclasses.replace(SPEC, losses={"confidence": 1.0, "adversarial": 1.0}),  # type: ignore[arg-type]
        co_training=CoTrainingConfig(opponent="float"), architecture="dfqf", conditional=False,
        warmup_iterations=1,
    )  # fmt: skip
    make(tiny(tmp_path), spec, told=told)
    assert ["adversarial" in f for f in told.figures] == [False, True, True, True]
    assert all(f["opponent"] > 0 for f in told.figures)


def test_a_kept_generator_makes_the_same_kind_of_images_without_training(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    first = live(make(model))
    path = tmp_path / "generator.npz"
    np.savez(path, **first.state())  # type: ignore[arg-type]
    told = Told()
    again = live(make(model, changed(checkpoint=str(path)), told=told))
    assert not told.figures
    for name, value in first.state().items():
        if "running" not in name and "tracked" not in name:  # moved by drawing
            assert np.array_equal(again.state()[name], value), name
    a = first.draw(16, torch.Generator().manual_seed(3)).x
    b = again.draw(16, torch.Generator().manual_seed(3)).x
    assert torch.equal(a, b)


def test_a_kept_generator_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    path = tmp_path / "generator.npz"
    np.savez(path, **live(make(model)).state())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"0.embedding.weight is \(5, 8\), expected \(5, 9\)"):
        make(model, changed(checkpoint=str(path), latent=9))
    with pytest.raises(UsageError, match="is missing"):
        make(model, changed(checkpoint=str(path), co_training=CoTrainingConfig(generators=2)))
    with pytest.raises(UsageError, match="no such file"):
        make(model, changed(checkpoint=str(tmp_path / "none.npz")))
    path.write_text("words")
    with pytest.raises(UsageError, match="not a readable npz"):
        make(model, changed(checkpoint=str(path)))


def test_values_that_are_no_image_are_refused(tmp_path: Path) -> None:
    context = SynthesisContext(
        teacher=program(tiny(tmp_path)), statistics={},
        inputs=InputFormat(PRESETS["raw"], (16, 16)), config=SPEC, plan=PLAN,
        generator=torch.Generator(), run=RunContext(),
    )  # fmt: skip
    with pytest.raises(UsageError, match="recipe default"):
        generate(context)


def test_what_the_last_layer_reads_is_found(tmp_path: Path) -> None:
    assert find_classifier_input(program(tiny(tmp_path))) == "f"


@pytest.mark.parametrize(
    ("fall", "done", "expected"),
    [
        ("constant", 0.7, 1.0),
        ("cosine", 0.0, 1.0), ("cosine", 0.5, 0.5), ("cosine", 1.0, 0.0),
        ("steps", 0.2, 1.0), ("steps", 0.25, 0.1), ("steps", 0.8, 0.01),
    ],
)  # fmt: skip
def test_a_rate_falls_as_the_recipe_says(fall: str, done: float, expected: float) -> None:
    assert lr_factor(done, fall, milestones=(0.25, 0.75)) == pytest.approx(expected)
