"""Losses against closed forms in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfqonnx.distill.losses import feature_loss, kd_loss, normalized_error


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kd_is_the_divergence_times_t_squared(temperature: float) -> None:
    s, t = values(6, 10), values(6, 10, seed=1)
    p = softmax(t.double().numpy() / temperature)
    q = softmax(s.double().numpy() / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    # float32 logarithms against float64
    assert float(kd_loss(s, t, temperature)) == pytest.approx(expected, rel=1e-4)


def test_kd_of_a_dense_output_takes_every_position_as_a_row() -> None:
    s, t = values(2, 3, 4, 10), values(2, 3, 4, 10, seed=1)
    flat = kd_loss(s.reshape(-1, 10), t.reshape(-1, 10), 4.0)
    assert torch.equal(kd_loss(s, t, 4.0), flat)


def test_equal_outputs_cost_nothing() -> None:
    t = values(4, 10)
    assert float(kd_loss(t, t, 4.0)) == pytest.approx(0.0, abs=1e-6)  # float32 rounding
    assert float(feature_loss({"a": t}, {"a": t})) == 0.0


@pytest.mark.parametrize("last", [False, True])
def test_features_are_error_over_teacher_variance_summed_over_blocks(last: bool) -> None:
    students = {"a": values(3, 4, 5, 6), "b": 100 * values(3, 8, 2, 2, seed=1)}
    teachers = {"a": values(3, 4, 5, 6, seed=2) + 3, "b": 100 * values(3, 8, 2, 2, seed=3)}
    if last:
        students = {k: v.to(memory_format=torch.channels_last) for k, v in students.items()}
    expected = 0.0
    for name, t in teachers.items():
        s64, t64 = students[name].double().numpy(), t.double().numpy()
        expected += float(((s64 - t64) ** 2).mean() / t64.var())
    # float32 sums
    assert float(feature_loss(students, teachers)) == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_the_normalized_error_is_that_of_autograd() -> None:
    t = values(2, 3, 4, 5, seed=1)
    own = values(2, 3, 4, 5).requires_grad_()
    normalized_error(own, t).mul(3).backward()
    reference = own.detach().clone().requires_grad_()
    (3 * (reference - t).square().mean() / t.var(correction=0)).backward()
    # float32 sums in another order
    torch.testing.assert_close(own.grad, reference.grad, rtol=1e-4, atol=1e-7)


def test_no_blocks_cost_nothing() -> None:
    assert float(feature_loss({}, {})) == 0.0


def test_a_constant_teacher_block_does_not_divide_by_zero() -> None:
    assert torch.isfinite(normalized_error(torch.ones(2, 3), torch.zeros(2, 3)))
