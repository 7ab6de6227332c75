"""Student losses by name, against closed forms; their optimizer, and its rates."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from dfqonnx.config.distillation import DistillationConfig, LearningRates, OptimizerConfig
from dfqonnx.config.loss_terms import STUDENT_LOSSES as KNOWN
from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.distill.losses import (
    STUDENT_LOSSES,
    DistillationLossInputs,
    channel_attention,
    feature_loss,
    kd_loss,
    weighted_sum,
)
from dfqonnx.distill.trainer import build_optimizers
from dfqonnx.errors import UsageError
from dfqonnx.fakequant.student import Student

N, K = 6, 10


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(labels: torch.Tensor | None = None) -> DistillationLossInputs:
    return DistillationLossInputs(
        student=3 * values(N, K),
        teacher=3 * values(N, K, seed=1),
        student_features={"a": values(N, 4, 5, 5, seed=2)},
        teacher_features={"a": values(N, 4, 5, 5, seed=3)},
        temperature=4.0,
        labels=labels,
    )


def test_recipes_and_functions_know_the_same_losses_and_settings() -> None:
    assert set(KNOWN) == set(STUDENT_LOSSES)
    for name, known in KNOWN.items():
        assert torch.isfinite(STUDENT_LOSSES[name](inputs(), **known.settings)), name


def test_the_sum_is_weighted_and_leaves_out_what_weighs_nothing() -> None:
    given = inputs()
    found = weighted_sum(
        (LossTerm("kd", 2.0), LossTerm("logits", 0.5), LossTerm("class", 0.0)), given
    )
    wanted = 2 * kd_loss(given.student, given.teacher, 4.0)
    wanted = wanted + 0.5 * STUDENT_LOSSES["logits"](given)
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    features = feature_loss(given.student_features, given.teacher_features)
    assert float(weighted_sum((LossTerm("features"),), given)) == pytest.approx(float(features))
    assert float(weighted_sum((), given)) == 0.0


@pytest.mark.parametrize("asked", [True, False])
def test_class_is_cross_entropy_to_the_label_or_the_teacher_s_choice(asked: bool) -> None:
    labels = torch.arange(N) % K
    given = inputs(labels if asked else None)
    right = (labels if asked else given.teacher.argmax(1)).numpy()
    p = softmax(given.student.double().numpy(), axis=1)
    wanted = -np.log(p[np.arange(N), right]).mean()
    assert float(weighted_sum((LossTerm("class"),), given)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (1.0, 8.0)])
def test_decoupled_distillation_is_its_two_divergences(
    temperature: float, alpha: float, beta: float
) -> None:
    right = np.arange(N) % K
    given = dataclasses.replace(inputs(torch.from_numpy(right)), temperature=temperature)
    s, t = (
        softmax(z.double().numpy() / temperature, axis=1) for z in (given.student, given.teacher)
    )
    wanted = 0.0
    for n, c in enumerate(right):
        binary = [np.array([p[n, c], 1 - p[n, c]]) for p in (t, s)]
        rest = [np.delete(p[n], c) / (1 - p[n, c]) for p in (t, s)]
        wanted += alpha * rel_entr(*binary).sum() + beta * rel_entr(*rest).sum()
    found = STUDENT_LOSSES["dkd"](given, target=alpha, others=beta)
    # float32 logarithms against float64
    assert float(found) == pytest.approx(temperature**2 * wanted / N, rel=1e-4)


def test_decoupled_with_the_teacher_s_own_weight_is_plain_distillation() -> None:
    """KL = KL(binary) + (1 - p_c) KL(rest), per image (Zhao et al., equation 7)."""
    s, t, right = 3 * values(1, K), 3 * values(1, K, seed=1), torch.tensor([2])
    rest = float(1 - (t / 4.0).softmax(1)[0, 2])
    given = dataclasses.replace(inputs(right), student=s, teacher=t)
    found = STUDENT_LOSSES["dkd"](given, target=1.0, others=rest)
    assert float(found) == pytest.approx(float(kd_loss(s, t, 4.0)), rel=1e-4)


def test_attention_is_the_unit_vector_of_channel_energies() -> None:
    f = values(2, 3, 4, 5)
    energy = (f.numpy() ** 2).mean((2, 3))
    unit = energy / np.linalg.norm(energy, axis=1, keepdims=True)
    np.testing.assert_allclose(channel_attention(f), unit, rtol=1e-5)

    def attention(s: dict[str, torch.Tensor], t: dict[str, torch.Tensor]) -> float:
        given = dataclasses.replace(inputs(), student_features=s, teacher_features=t)
        return float(STUDENT_LOSSES["attention"](given))

    # 3 f has the same attention: float32 rounding
    assert attention({"a": f}, {"a": 3 * f}) == pytest.approx(0.0, abs=1e-12)
    other = values(2, 3, 4, 5, seed=1)
    energy = (other.numpy() ** 2).mean((2, 3))
    wanted = np.mean((unit - energy / np.linalg.norm(energy, axis=1, keepdims=True)) ** 2)
    found = attention({"a": f, "flat": f[..., 0, 0]}, {"a": other, "flat": f})
    assert found == pytest.approx(float(wanted), rel=1e-4)
    assert attention({}, {}) == 0.0


def test_attention_of_bodies_takes_the_place_of_that_of_blocks() -> None:
    s, t = values(2, 3, 4, 5), values(2, 3, 4, 5, seed=1)
    given = dataclasses.replace(
        inputs(), student_layers={"b": s, "c": t}, teacher_layers={"b": t, "c": s}, bodies=("b",)
    )
    plain = dataclasses.replace(inputs(), student_features={"b": s}, teacher_features={"b": t})
    found = STUDENT_LOSSES["attention"](given)
    assert float(found) == pytest.approx(float(STUDENT_LOSSES["attention"](plain)))


def test_layers_are_weighted_by_depth() -> None:
    s = {"a": values(2, 3), "b": values(2, 4, seed=1)}
    t = {"a": s["a"] + 0.5, "b": s["b"] - 3.0}
    given = dataclasses.replace(inputs(), student_layers=s, teacher_layers=t)
    # 2 k / (2^2 + 2) for k = 1, 2: a third and two thirds; huber of 0.5 and of 3
    wanted = 0.5**2 / 2 / 3 + 2 / 3 * (3 - 0.5)
    assert float(STUDENT_LOSSES["layers"](given)) == pytest.approx(wanted, rel=1e-5)


def test_kd_by_class_divides_by_their_number() -> None:
    given = inputs()
    found = STUDENT_LOSSES["kd"](given, per_class=1.0)
    # the mean over all elements of PyTorch's own pointwise form
    t, s = ((z / 4.0).log_softmax(1) for z in (given.teacher, given.student))
    wanted = 16 * torch.nn.functional.kl_div(s, t, reduction="none", log_target=True).mean()
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_where_no_class_was_asked_for_it_is_the_teacher_s_own() -> None:
    asked = torch.tensor([3, -1, 4, -1, 5, 6])
    own = inputs().teacher.argmax(1)
    assert inputs(asked).classes.tolist() == [3, int(own[1]), 4, int(own[3]), 5, 6]


def test_no_student_loss_asks_the_teacher_for_a_gradient() -> None:
    given = inputs()
    student, teacher = given.student.requires_grad_(), given.teacher
    with torch.no_grad():
        frozen = teacher.clone()
    for name in STUDENT_LOSSES:
        block = given.student_features["a"].detach().requires_grad_()
        own = dataclasses.replace(
            given,
            student=student,
            teacher=frozen,
            student_features={"a": block},
            student_layers={"a": block},
            teacher_layers=given.teacher_features,
        )
        loss = STUDENT_LOSSES[name](own)
        torch.autograd.grad(loss, [student, block], allow_unused=True)
    assert frozen.grad is None
    assert not frozen.requires_grad


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_moves_as_its_formula_and_scales_have_neither_momentum_nor_decay(
    student: Student, nesterov: bool
) -> None:
    parts = student.parameter_groups()
    spec = OptimizerConfig(
        kind="sgd", weight_lr=0.1, scale_lr=0.2, momentum=0.9, nesterov=nesterov, weight_decay=0.5
    )
    (moving,) = build_optimizers(parts, spec)
    weight, bias, scale = (parts[kind][0] for kind in ("weights", "biases", "scales"))
    before = [p.detach().clone() for p in (weight, bias, scale)]
    for p in (weight, bias, scale):
        p.grad = torch.ones_like(p)
    moving.step()
    # Nesterov's first step: gradient + momentum gradient, decay added to the gradient before; a
    # plain one moves by the gradient alone
    first = 1.9 if nesterov else 1.0
    pull = 1.0 + 0.5 * before[0]
    torch.testing.assert_close(weight.detach(), before[0] - 0.1 * first * pull)
    torch.testing.assert_close(bias.detach(), before[1] - 0.1 * first)
    torch.testing.assert_close(scale.detach(), before[2] - 0.2)


@pytest.mark.parametrize(
    ("fall", "done", "expected"),
    [
        ("constant", 0.05, 0.5), ("constant", 0.9, 1.0),
        ("steps", 0.3, 1.0), ("steps", 0.6, 0.1), ("steps", 0.9, 0.01),
        ("cosine", 1.0, 0.01), ("cosine", 0.1, 1.0),
    ],
)  # fmt: skip
def test_rates_rise_then_fall_as_the_recipe_says(fall: str, done: float, expected: float) -> None:
    spec = OptimizerConfig(lr_schedule=fall, milestones=(0.5, 0.8))  # type: ignore[arg-type]
    assert spec.lr_factor(done) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"losses": {"kdd": 1}}, "distillation.losses: unknown loss 'kdd'; did you mean 'kd'"),
        ({"losses": {"dkd": {"other": 1}}}, "distillation.losses.dkd: unknown key 'other'"),
        ({"losses": {"kd": float("nan")}}, "distillation.losses.kd.weight"),
    ],
)
def test_a_wrong_term_is_named_with_the_nearest(wrong: dict[str, object], place: str) -> None:
    with pytest.raises(UsageError, match=place):
        DistillationConfig(**wrong)  # type: ignore[arg-type]


def test_a_rounding_brings_its_own_rates_and_a_recipe_shows_them() -> None:
    soft = OptimizerConfig(
        kind="muon", rounding="soft", weight_lr=8e-3, bias_lr=1e-2, scale_lr=1e-2
    )
    assert OptimizerConfig() == soft
    assert OptimizerConfig(kind="adam") == replace(soft, kind="adam", weight_lr=3e-2)
    straight = OptimizerConfig(rounding="ste")
    assert (straight.weight_lr, straight.bias_lr, straight.scale_lr) == (4e-4, 4e-4, 4e-3)
    assert straight.rates() == LearningRates(4e-4, 4e-4, 4e-3)
    assert OptimizerConfig(rounding="held").rates() == LearningRates(2e-3, 2e-3, 2e-3)
    assert OptimizerConfig(weight_lr=0.5).rates() == LearningRates(0.5, 0.5, 1e-2)
    assert OptimizerConfig(weight_lr=0.5, bias_lr=0.1).rates() == LearningRates(0.5, 0.1, 1e-2)


@pytest.mark.parametrize(
    "wrong",
    [{"weight_lr": 0.0}, {"momentum": 1.5}, {"milestones": (1.0,)}, {"max_grad_norm": -1.0}],
)
def test_a_wrong_optimizer_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"distillation.optimizer.{next(iter(wrong))}"):
        OptimizerConfig(**wrong)  # type: ignore[arg-type]
