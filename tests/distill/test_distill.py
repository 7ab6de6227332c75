"""Distillation end to end on a tiny network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from dfqonnx.config.distillation import (
    DistillationConfig,
    EqualizationConfig,
    OptimizerConfig,
    Rounding,
)
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.context import RunContext
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import BitWidths
from dfqonnx.core.quantization_plan import QuantizationParameters, QuantizationPlan
from dfqonnx.distill import batch_size as batch_size_module
from dfqonnx.distill import initialize as initialize_module
from dfqonnx.distill import losses as losses_module
from dfqonnx.distill import trainer as trainer_module
from dfqonnx.distill.agreement import Agreement
from dfqonnx.distill.distill import Distilled, choose_steps, distill
from dfqonnx.distill.divergence_guard import DivergenceGuard, paint_guard_images
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.distill.schedule import BUDGET_WHERE_HELD, CLASSES_WHERE_HELD, choose_dampings
from dfqonnx.distill.state import PATIENCE
from dfqonnx.distill.trainer import WeightAverage
from dfqonnx.equalization.equalize import EqualizedNetwork
from dfqonnx.errors import UsageError
from dfqonnx.fakequant.student import Student
from tests.distill.conftest import INPUTS, synthetic

CONFIG = DistillationConfig(
    steps=60,
    batch_size=64,
    holdout_images=64,
    weight_averaging=0.3,
    gptq_damping=(),
    optimizer=OptimizerConfig(weight_lr=2e-3, scale_lr=5e-3),
)
Tiny = tuple[Program, QuantizationPlan]


class Listening(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.totals: list[int] = []
        self.done = 0
        self.warnings: list[str] = []

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        self.stages.append(stage)
        self.totals.append(total)

    def advance(self, units: int = 1, **figures: float) -> None:
        self.done += units

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def run(
    program: Program,
    student: Student,
    images: np.ndarray,
    config: DistillationConfig = CONFIG,
    *,
    seed: int = 0,
    budget: float | None = None,
    progress: Listening | None = None,
) -> Distilled:
    context = RunContext(seed=seed, progress=progress or Listening(), budget_seconds=budget)
    return distill(
        EqualizedNetwork(program, student.plan),
        student,
        synthetic(images),
        config=config,
        equalization=EqualizationConfig(),
        inputs=INPUTS,
        context=context,
    )


def same(a: QuantizationParameters, b: QuantizationParameters) -> bool:
    return a.activations == b.activations and all(
        np.array_equal(w.codes, b.weights[node].codes)
        and np.array_equal(w.scale, b.weights[node].scale)
        and np.array_equal(w.bias, b.weights[node].bias)
        for node, w in a.weights.items()
    )


@pytest.mark.parametrize("rounding", ["soft", "ste"])
def test_a_student_agrees_more_with_its_teacher_after_training(
    tiny: Tiny, student: Student, images: np.ndarray, rounding: Rounding
) -> None:
    optimizer = dataclasses.replace(CONFIG.optimizer, rounding=rounding)
    result = run(tiny[0], student, images, dataclasses.replace(CONFIG, optimizer=optimizer))
    assert result.kept
    assert result.steps == 60
    assert result.agreement_after.kl < 0.95 * result.agreement_before.kl
    falls = result.history[-1].loss < result.history[0].loss
    assert falls == (rounding == "ste")  # soft: least before the last weights are rounded
    assert result.seconds > 0


@pytest.mark.parametrize(("kl", "share"), [(None, BUDGET_WHERE_HELD), (0.2, CLASSES_WHERE_HELD)])
def test_scales_and_biases_alone_train_a_part_of_the_time(
    student: Student, kl: float | None, share: float
) -> None:
    far = Agreement(top1=None, kl=kl, error=0.2)
    held = DistillationConfig(optimizer=OptimizerConfig(rounding="held"))
    student.count_activations(torch.zeros(1, 3, 8, 8))
    steps = [
        choose_steps(config, student, far, values=300_000, known=True)
        for config in (DistillationConfig(), held)
    ]
    # values make it a network of a few thousand steps, below the most and above the fewest
    assert steps[1] == pytest.approx(share * steps[0], abs=1)


def test_held_codes_stay_and_what_is_around_them_learns(
    tiny: Tiny, student: Student, images: np.ndarray
) -> None:
    optimizer = OptimizerConfig(rounding="held")
    result = run(tiny[0], student, images, dataclasses.replace(CONFIG, optimizer=optimizer))
    assert result.kept
    assert result.agreement_after.kl < result.agreement_before.kl
    assert all(entry.rounding_temperature == 0 for entry in result.history)
    trained = student.qparams()
    student.load_state(result.untrained)
    before = student.qparams()
    for node, found in trained.weights.items():
        assert np.array_equal(found.codes, before.weights[node].codes)
        assert not np.array_equal(found.scale, before.weights[node].scale)
    assert trained.activations != before.activations


def test_the_teacher_is_left_bit_for_bit(tiny: Tiny, student: Student, images: np.ndarray) -> None:
    before = {name: tensor.clone() for name, tensor in tiny[0].tensors.items()}
    run(tiny[0], student, images)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny[0].tensors.items())


def test_the_same_seed_gives_the_same_integers(tiny: Tiny, images: np.ndarray) -> None:
    config = dataclasses.replace(CONFIG, steps=8)
    params = []
    for seed in (0, 0, 1):
        student = Student(*tiny)
        run(tiny[0], student, images, config, seed=seed)
        params.append(student.qparams())
    assert same(params[0], params[1])
    assert not same(params[0], params[2])


def test_images_are_counted_as_drawn_where_memory_makes_batches_smaller(
    tiny: Tiny, student: Student, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, steps=3)
    assert run(tiny[0], student, images, config).images_seen == 3 * CONFIG.batch_size
    monkeypatch.setattr(
        batch_size_module, "available_bytes", lambda context: 1
    )  # one byte: single images
    assert run(tiny[0], Student(*tiny), images, config).images_seen == 3


def test_no_steps_only_initialize(tiny: Tiny, student: Student, images: np.ndarray) -> None:
    result = run(tiny[0], student, images, dataclasses.replace(CONFIG, steps=0), budget=30.0)
    assert (result.steps, result.kept, result.reason) == (0, False, "")
    assert result.agreement_after == result.agreement_before
    assert result.agreement_before.top1 > 0.3  # chance is 0.1


def test_reconstruction_brings_the_student_closer_without_a_step(
    tiny: Tiny, student: Student, images: np.ndarray
) -> None:
    plain = run(tiny[0], Student(*tiny), images, dataclasses.replace(CONFIG, steps=0))
    config = dataclasses.replace(CONFIG, steps=0, gptq_damping=(0.1, 1.0))
    rebuilt = run(tiny[0], student, images, config)
    # 3-bit weights: about half of the divergence is rounding that neighbors can make up for
    assert rebuilt.agreement_after.kl < 0.9 * plain.agreement_after.kl


def test_a_reconstruction_that_does_harm_is_thrown_away(
    tiny: Tiny, student: Student, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(student: Student, *_: object, **__: object) -> None:
        with torch.no_grad():
            for weight in student.parameter_groups()["weights"]:
                weight.zero_()

    plain = Student(*tiny)
    run(tiny[0], plain, images, dataclasses.replace(CONFIG, steps=0))
    monkeypatch.setattr(initialize_module, "gptq", spoil)
    run(tiny[0], student, images, dataclasses.replace(CONFIG, steps=0, gptq_damping=(0.3,)))
    assert same(student.qparams(), plain.qparams())


def test_a_training_that_does_harm_is_thrown_away(
    tiny: Tiny, student: Student, images: np.ndarray
) -> None:
    progress = Listening()
    fast = OptimizerConfig(weight_lr=10.0, warmup=0.0)
    wild = dataclasses.replace(CONFIG, steps=5, optimizer=fast, weight_averaging=0.0)
    result = run(tiny[0], student, images, wild, progress=progress)
    assert not result.kept
    assert result.agreement_after == result.agreement_before
    assert "held-out" in result.reason
    assert progress.warnings
    untrained = Student(*tiny)
    run(tiny[0], untrained, images, dataclasses.replace(CONFIG, steps=0))
    assert same(student.qparams(), untrained.qparams())


@pytest.mark.parametrize("rejects", [False, True])
def test_a_training_that_the_guard_rejects_is_thrown_away(
    tiny: Tiny,
    student: Student,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    rejects: bool,
) -> None:
    monkeypatch.setattr(DivergenceGuard, "rejects", lambda self, student: rejects)
    result = run(tiny[0], student, images, dataclasses.replace(CONFIG, guard_images=16))
    assert result.kept != rejects
    assert ("procedural images" in result.reason) == rejects


def test_the_guard_has_images_of_its_own(tiny: Tiny, images: np.ndarray) -> None:
    student = Student(*tiny)
    pool = ImagePool(images, INPUTS, holdout=8, context=RunContext())
    teacher = ProgramModule(tiny[0], taps=student.features, channels_last=True)
    student.initialize(pool.batches(pool.train, 32))
    painted, none = (paint_guard_images(pool, count, 0) for count in (16, 0))
    assert (len(painted), len(none)) == (16, 0)
    guard = DivergenceGuard(student, teacher, pool, images=painted, batch_size=8)
    without = DivergenceGuard(student, teacher, pool, images=none, batch_size=8)
    assert not guard.rejects(student), "nothing has changed"
    with torch.no_grad():
        for weight in student.parameter_groups()["weights"]:
            weight.zero_()
    assert guard.rejects(student)
    assert not without.rejects(student)


def test_a_loss_that_is_not_finite_ends_training_with_the_untrained_student(
    tiny: Tiny, student: Student, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(out: Tensor, goal: Tensor, temperature: float) -> Tensor:
        return out.sum() * torch.nan

    monkeypatch.setattr(losses_module, "kd_loss", broken)
    progress = Listening()
    result = run(tiny[0], student, images, progress=progress)
    assert result.steps == PATIENCE
    assert not result.kept
    assert "not finite" in result.reason
    assert all(np.isfinite(a.scale) for a in student.qparams().activations.values())
    assert progress.warnings


def test_a_budget_decides_the_number_of_steps(
    tiny: Tiny, student: Student, images: np.ndarray
) -> None:
    config = dataclasses.replace(CONFIG, steps=None, weight_averaging=0.0)
    progress = Listening()
    result = run(tiny[0], student, images, config, budget=2.0, progress=progress)
    assert result.steps == progress.totals[-1]
    assert len(progress.totals) > 1
    assert result.steps >= 5


def test_progress_hears_of_every_step(tiny: Tiny, student: Student, images: np.ndarray) -> None:
    progress = Listening()
    run(tiny[0], student, images, dataclasses.replace(CONFIG, steps=7), progress=progress)
    assert progress.stages == ["initialize", "distill"]
    assert progress.totals == [1, 7]
    assert progress.done == 1 + 7


def test_agreement_on_held_out_images_is_part_of_the_history(
    tiny: Tiny, student: Student, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "AGREEMENT_EVERY", 10)
    result = run(tiny[0], student, images, dataclasses.replace(CONFIG, steps=50))
    assert [m.step for m in result.history] == [25, 50]
    assert all(m.agreement is not None and 0 <= m.agreement <= 1 for m in result.history)


def test_the_trained_bits_are_the_narrowest(student: Student) -> None:
    assert student.plan.narrowest() == BitWidths(3, 3)


def test_held_out_images_are_never_drawn(images: np.ndarray) -> None:
    pool = ImagePool(images, INPUTS, holdout=32, context=RunContext())
    held = {x.numpy().tobytes() for x in pool.held_out}
    assert len(held) == 32
    draws = pool.draw(96, torch.Generator().manual_seed(0))
    drawn = [x.numpy().tobytes() for _ in range(5) for x in next(draws)]
    assert held.isdisjoint(drawn)
    assert len(set(drawn)) == 480  # every image once before any comes again


def test_a_batch_may_be_larger_than_the_pool(images: np.ndarray) -> None:
    pool = ImagePool(images[:10], INPUTS, holdout=32, context=RunContext())
    assert len(pool.held_out) == 1
    assert len(next(pool.draw(32, torch.Generator().manual_seed(0)))) == 32


def test_images_of_the_wrong_kind_are_refused(images: np.ndarray) -> None:
    with pytest.raises(UsageError, match="float32"):
        ImagePool(images.astype("f4"), INPUTS, holdout=8, context=RunContext())  # type: ignore[arg-type]


def test_the_tail_mean_is_the_mean() -> None:
    p = torch.zeros(3)
    mean = WeightAverage([p])
    mean.apply()
    assert torch.equal(p, torch.zeros(3))
    for k in range(1, 5):
        p.fill_(float(k))
        mean.add()
    mean.apply()
    assert torch.equal(p, torch.full((3,), 2.5))


@pytest.mark.parametrize(
    ("bits", "known", "fitted"),
    [("w8a8", False, False), ("w8a8", True, True), ("w4a8", False, True), ("w8a4", False, True)],
)
def test_weights_of_eight_bits_are_not_fitted_to_inputs_that_nothing_vouches_for(
    bits: str, known: bool, fitted: bool
) -> None:
    config = DistillationConfig(gptq_damping=(0.5,))
    found = choose_dampings(config, BitWidths.parse(bits), known=known, has_classes=True)
    assert found.gptq_damping == ((0.5,) if fitted else ())


@pytest.mark.parametrize(
    ("given", "tried"),
    [((1.0, 0.1, 0.3), (0.3,)), ((0.2,), (0.2,)), ((), ()), ((2.0, 1.0), (2.0,))],
)
def test_eight_bits_of_a_classifiers_activations_try_the_middle_damping_alone(
    given: tuple[float, ...], tried: tuple[float, ...]
) -> None:
    config = DistillationConfig(gptq_damping=given)

    def chosen(bits: str, *, has_classes: bool) -> tuple[float, ...]:
        widths = BitWidths.parse(bits)
        return choose_dampings(config, widths, known=True, has_classes=has_classes).gptq_damping

    assert chosen("w8a8", has_classes=True) == chosen("w4a8", has_classes=True) == tried
    assert chosen("w8a8", has_classes=False) == chosen("w4a4", has_classes=True) == given


@pytest.mark.parametrize(("known", "trained"), [(False, False), (True, True)])
def test_eight_bits_are_not_trained_on_inputs_that_nothing_vouches_for(
    tiny: Tiny, known: bool, trained: bool
) -> None:
    student = Student(*tiny)
    student(torch.zeros(1, *INPUTS.shape))  # counts multiply-adds
    eight = {
        part: tuple(
            dataclasses.replace(each, grid=dataclasses.replace(each.grid, bits=8))
            for each in getattr(student.plan, part)
        )
        for part in ("weights", "activations")
    }
    student.plan = dataclasses.replace(student.plan, **eight)
    far = Agreement(top1=0.5, kl=1.0)  # so far off that images of eight bits train
    found = choose_steps(DistillationConfig(), student, far, values=100, known=known)
    assert (found > 0) == trained
    # what a recipe asks for is done
    asked = choose_steps(DistillationConfig(steps=7), student, far, values=100, known=known)
    assert asked == 7
