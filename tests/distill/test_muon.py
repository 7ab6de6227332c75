"""Steps along the nearest orthogonal matrix, against a singular value decomposition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dfqonnx.config.distillation import OptimizerConfig
from dfqonnx.convert.optimizer_state import load_optimizer, save_optimizer
from dfqonnx.distill.muon import MOMENTUM, MOST_ROWS, Muon, is_matrix, orthogonalize
from dfqonnx.distill.trainer import build_optimizers


def made(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 27), (64, 576), (40, 8), (10, 64)])
def test_singular_values_become_one_nearly_and_directions_stay(shape: tuple[int, int]) -> None:
    matrix = made(*shape)
    found = orthogonalize([matrix])[0] / math.sqrt(max(shape))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    in_its_basis = u.T @ found @ v.T
    values = in_its_basis.diagonal()
    assert values.min() > 0.6  # the polynomial leaves 0.68 to 1.13 of what is not tiny
    assert values.max() < 1.3
    torch.testing.assert_close(in_its_basis, values.diag(), atol=1e-4, rtol=0)


def test_many_rows_are_taken_in_groups_and_equal_shapes_together() -> None:
    tall, small, other = made(2 * MOST_ROWS + 6, 90), made(8, 90), made(8, 90, seed=1)
    groups = [orthogonalize([part])[0] for part in tall.split(MOST_ROWS)]
    found = orthogonalize([tall, small, other])
    torch.testing.assert_close(found[0], torch.cat(groups))
    torch.testing.assert_close(found[1], orthogonalize([small])[0])
    torch.testing.assert_close(found[2], orthogonalize([other])[0])


@pytest.mark.parametrize("shape", [(200, 8), (300, 70), (12, 90), (64, 64)])
def test_what_a_weight_moves_is_the_rate_whatever_the_shape(shape: tuple[int, int]) -> None:
    (found,) = orthogonalize([made(*shape)])
    for rows in torch.split(found, MOST_ROWS):
        assert rows.square().mean().sqrt() == pytest.approx(1.0, rel=0.25)


def test_a_step_moves_weights_by_the_rate_and_follows_its_momentum() -> None:
    weight = nn.Parameter(made(32, 16, 3, 3))
    moving = Muon([{"params": [weight]}], lr=0.01)
    gradients = made(32, 16, 3, 3, seed=1), made(32, 16, 3, 3, seed=2)
    momentum = torch.zeros_like(weight)
    for gradient in gradients:
        before = weight.detach().clone()
        weight.grad = gradient.clone()
        moving.step()
        momentum = MOMENTUM * momentum + gradient
        (expected,) = orthogonalize([(gradient + MOMENTUM * momentum).flatten(1)])
        moved = before - weight.detach()
        torch.testing.assert_close(moved.flatten(1), 0.01 * expected)
        assert moved.square().mean().sqrt() == pytest.approx(0.01, rel=0.25)


def test_decay_is_part_of_the_gradient_and_without_one_nothing_moves() -> None:
    decayed, plain = (nn.Parameter(made(8, 12)) for _ in range(2))
    gradient = made(8, 12, seed=3)
    decayed.grad, plain.grad = gradient.clone(), gradient + 0.5 * plain.detach()
    Muon([{"params": [decayed]}], lr=0.1, weight_decay=0.5).step()
    moving = Muon([{"params": [plain]}], lr=0.1)
    moving.step()
    torch.testing.assert_close(decayed.detach(), plain.detach())
    before, kept = plain.detach().clone(), save_optimizer(moving)["0.momentum"].clone()
    plain.grad = None
    moving.step()
    assert torch.equal(plain.detach(), before)
    assert torch.equal(save_optimizer(moving)["0.momentum"], kept)


def test_it_goes_on_from_a_saved_state_as_if_it_had_not_stopped() -> None:
    whole, halted = (nn.Parameter(made(16, 4, 3, 3)) for _ in range(2))
    first, second = made(16, 4, 3, 3, seed=4), made(16, 4, 3, 3, seed=5)
    moving = Muon([{"params": [whole]}], lr=0.1)
    for gradient in (first, second):
        whole.grad = gradient.clone()
        moving.step()
    begun = Muon([{"params": [halted]}], lr=0.1)
    halted.grad = first.clone()
    begun.step()
    resumed = Muon([{"params": [halted]}], lr=0.1)
    load_optimizer(resumed, save_optimizer(begun))
    halted.grad = second.clone()
    resumed.step()
    assert torch.equal(whole.detach(), halted.detach())


def test_depthwise_weights_biases_and_scales_have_adam_and_other_recipes_have_no_muon() -> None:
    dense, depthwise = nn.Parameter(made(8, 4, 3, 3)), nn.Parameter(made(8, 1, 3, 3))
    bias, scale = nn.Parameter(made(8)), nn.Parameter(made(1))
    assert is_matrix(dense)
    assert not is_matrix(depthwise)
    parts = {"weights": [dense, depthwise], "biases": [bias], "scales": [scale]}
    muon, adam = build_optimizers(parts, OptimizerConfig())
    assert [group["params"] for group in muon.param_groups] == [[dense]]
    assert isinstance(adam, torch.optim.Adam)
    assert [(g["kind"], g["lr"]) for g in adam.param_groups] == [
        ("weights", 1e-2), ("biases", 1e-2), ("scales", 1e-2),
    ]  # fmt: skip
    for config in (OptimizerConfig(rounding="ste"), OptimizerConfig(kind="adam")):
        (only,) = build_optimizers(parts, config)
        assert isinstance(only, torch.optim.Adam)
        assert only.param_groups[0]["params"] == [dense, depthwise]
