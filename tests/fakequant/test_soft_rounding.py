"""Gradual rounding: closed forms of the ramp, means that stay, and a way back without a change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.fakequant.layer import QuantizedLayer, both_rounded
from dfqonnx.fakequant.soft_rounding import (
    SoftRoundedLayer,
    SoftRounding,
    code_lr_factor,
    soft_round,
)
from dfqonnx.fakequant.student import Student

Tiny = tuple[Program, QuantizationPlan]
ONES = torch.ones(8)


@pytest.fixture
def student(tiny: Tiny, images: Tensor) -> Student:
    made = Student(*tiny)
    made.initialize([images])
    return made


def codes(latent: list[float], width: float) -> list[float]:
    one = torch.ones(1)
    return soft_round(torch.tensor(latent), one, (-4, 3), width).tolist()


def test_at_width_1_nothing_is_rounded_but_the_ends_hold() -> None:
    assert codes([-4.4, -1.75, 0.0, 0.5, 2.25, 3.4], 1.0) == [-4.0, -1.75, 0.0, 0.5, 2.25, 3.0]


def test_at_width_0_everything_is_rounded_half_to_even_as_onnx_does() -> None:
    assert codes([-4.4, -1.75, 0.5, 1.5, 2.25, 3.4], 0.0) == [-4.0, -2.0, 0.0, 2.0, 2.0, 3.0]


def test_between_the_ramp_is_steeper_around_the_middle_of_two_codes() -> None:
    found = codes([0.2, 0.25, 0.375, 0.5, 0.625, 0.75, 0.8, -0.625], 0.5)
    assert found == pytest.approx([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, -0.75])


@pytest.mark.parametrize("width", [1.0, 0.5, 0.05, 0.0])
def test_gradients_are_the_gain_and_the_step_where_nothing_is_decided(width: float) -> None:
    latent = torch.tensor([[-5.0, -1.4, 0.1], [0.45, 0.6, 7.0]], requires_grad=True)
    step = torch.tensor([[0.5], [2.0]], requires_grad=True)
    given = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    out = soft_round(latent, step, (-4, 3), width)
    out.backward(given)
    code = (out / step).detach()
    assert step.grad is not None
    torch.testing.assert_close(step.grad, (given * code).sum(1, keepdim=True))
    if not width:
        assert latent.grad is None  # not 0: an optimizer's momentum must not move what is decided
        return
    assert latent.grad is not None
    fraction = (latent - latent.floor()).detach()
    free = (fraction - 0.5).abs() <= width / 2 + min(width, 0.1)
    free = free & (latent.detach() >= -4.5) & (latent.detach() <= 3.5)
    torch.testing.assert_close(latent.grad, given * step.detach() * free)


def test_codes_between_two_whole_numbers_are_pulled_to_the_nearer_one(student: Student) -> None:
    form = SoftRoundedLayer(student.layers()[0], torch.zeros_like(student.layers()[0].weight), ONES)
    form.temperature = 0.5
    with torch.no_grad():
        form.latent.fill_(0.1)  # decided: the ramp is from 0.25 to 0.75
        form.latent[0, 0, 0] = torch.tensor([0.4, 0.5, 1.7])
    form.regularize(0.1)
    # v + 0.1 (1 - u) / 2u (c - 1/2), c - 1/2 = -0.2, 0, 0.4
    assert form.latent[0, 0, 0].tolist() == pytest.approx([0.39, 0.5, 1.72])
    assert bool((form.latent[1:] == torch.tensor(0.1)).all())


def test_a_step_under_weights_on_its_grid_has_a_gradient_here_and_none_with_lsq(
    student: Student,
) -> None:
    op = student.layers()[0]
    with torch.no_grad():
        op.weight.copy_(op.rounded_weight())
    op.rounded_weight().square().sum().backward()
    straight = op.log_scale.grad
    assert straight is not None
    inside = op.weight.detach().abs() < op.spec.grid.hi * op.shaped_scales().detach()
    op.log_scale.grad = None
    codes = (op.weight / op.shaped_scales()).detach().round()
    soft_round(codes, op.shaped_scales(), op.spec.grid.limits, 0.0).square().sum().backward()
    assert op.log_scale.grad is not None
    exact = 2.0 * op.rounded_weight().detach().square().flatten(1).sum(1)  # d |s c|^2 / d log s
    torch.testing.assert_close(op.log_scale.grad, exact)
    whole = inside.flatten(1).all(1)
    assert bool((straight[whole].abs() < 1e-5 * exact[whole]).all())


def test_settled_at_once_the_student_is_the_one_that_it_was(
    student: Student, images: Tensor
) -> None:
    before = student.qparams()
    SoftRounding(student, [images]).harden()
    after = student.qparams()
    assert before.activations == after.activations
    for node, old in before.weights.items():
        new = after.weights[node]
        assert np.array_equal(old.codes, new.codes)
        assert np.array_equal(old.scale, new.scale)
        assert old.bias is not None
        assert new.bias is not None
        # b + m - m in float32: at most one code where b / scale is near a half
        assert np.abs(old.bias.astype(int) - new.bias).max() <= 1


def test_after_settling_it_answers_as_it_did_at_width_0(student: Student, images: Tensor) -> None:
    softened = SoftRounding(student, [images])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (
            *softened.parameter_groups()["weights"],
            *softened.parameter_groups()["biases"],
        ):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        softened.set_temperature(0.0)
        soft_logits = student(images)[0]
        softened.harden()
        torch.testing.assert_close(student(images)[0], soft_logits)
    assert all(op.weight_source is both_rounded for op in student.layers())
    assert not [name for name in student.save_state() if "latent" in name]


@pytest.mark.parametrize("index", range(1, 5))  # 0 reads images of mean 0: nothing to hold
def test_means_of_outputs_stay_whatever_weights_and_gains_do(
    student: Student, images: Tensor, index: int
) -> None:
    op = student.layers()[index]
    values = seen(student, op, images)
    softened = SoftRounding(student, [images])
    softened.set_temperature(0.0)
    assert op.bias is not None
    generator = torch.Generator().manual_seed(index)
    with torch.no_grad():
        before = means(op(*values))
        softened.parameter_groups()["weights"][index].add_(
            torch.randn(op.weight.shape, generator=generator).to(op.weight)
        )
        op.log_scale.add_(0.1)
        after = means(op(*values))
        # the bias stands on a grid of s_x s_w: half of one of its codes, before and after
        allowed = op.bias_scale().max().item() + 1e-5
        assert (after - before).abs().max().item() <= allowed
        weight, _ = op.weight_source(op)
        moved = means(op.run(values, weight, op.bias)) - before
        assert moved.abs().max().item() > 5 * allowed  # without the term they do not


def seen(student: Student, op: QuantizedLayer, images: Tensor) -> tuple[Tensor, ...]:
    kept: list[tuple[Tensor, ...]] = []
    hook = op.register_forward_pre_hook(lambda _, values: kept.append(values))
    with torch.no_grad():
        student(images)
    hook.remove()
    return kept[0]


def means(out: Tensor) -> Tensor:
    return out.mean([axis for axis in range(out.dim()) if axis != 1])


@pytest.mark.parametrize(("width", "rate"), [(1.0, 1.0), (0.15, 1.0), (0.075, 0.5), (0.0015, 0.01)])
def test_codes_move_more_slowly_than_their_ramp_narrows(width: float, rate: float) -> None:
    assert code_lr_factor(width) == pytest.approx(rate)
