"""The grid search for steps against brute force in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfqonnx.core.quantization import INT8, SMALLEST_SCALE, UINT8
from dfqonnx.fakequant.observed_values import WeightedValues
from dfqonnx.fakequant.scale_search import (
    search_activation_range,
    search_activation_scale,
    search_unit_steps,
    search_weight_scales,
)


def error(x: np.ndarray, s: float, qn: int, qp: int) -> float:
    """Mean |x - x'|^2.4."""
    return float(np.mean(np.abs(np.clip(np.rint(x / s), qn, qp) * s - x) ** 2.4))


def seen(x: torch.Tensor) -> WeightedValues:
    """Values that all count alike."""
    return WeightedValues(x, torch.ones_like(x))


def brute_force(x: np.ndarray, qn: int, qp: int) -> float:
    """The least error over a grid ten times as fine as the search's."""
    widest = max(x.max() / qp, x.min() / qn if qn else 0.0)
    return min(error(x, widest * r, qn, qp) for r in np.linspace(0.02, 1.05, 1000))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_weight_channel_gets_its_best_step(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    w = torch.randn(5, 7, 3, 3, generator=generator) * torch.tensor([1e-3, 0.1, 1, 5, 50]).view(
        5, 1, 1, 1
    )
    w[3, 0, 0, 0] = 60.0  # one outlier
    grid = INT8.grid(bits)
    steps = search_weight_scales(w, grid, 0)
    for row, step in zip(w.double().numpy().reshape(5, -1), steps.tolist(), strict=True):
        # the reference's grid is ten times as fine; 63 values on 256 codes make a jagged error
        slack = 1.4 if bits == 8 else 1.05
        assert error(row, step, grid.lo, grid.hi) <= slack * brute_force(row, grid.lo, grid.hi)


def test_the_channel_axis_may_be_the_last_one() -> None:
    w = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        search_weight_scales(w, INT8.grid(4), 1),
        search_weight_scales(w.t(), INT8.grid(4), 0),
    )


def test_a_dead_channel_gets_a_tiny_positive_step() -> None:
    w = torch.zeros(3, 4)
    w[1] = 1.0
    steps = search_weight_scales(w, INT8.grid(4), 0)
    assert (steps > 0).all()
    assert steps[0] < 1e-7
    assert steps[1] > 1e-2


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_an_activation_gets_its_best_step(bits: int, signed: bool) -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(bits))
    x = x if signed else x.relu()
    grid = UINT8.grid(bits, negative=signed)
    qn, qp = grid.lo - grid.zero_point, grid.hi - grid.zero_point
    step = search_activation_scale(seen(x), lambda _: grid)
    reference = x.double().numpy()
    # the search's grid is ten times as coarse as the reference's
    assert error(reference, step, qn, qp) <= 1.05 * brute_force(reference, qn, qp)


@pytest.mark.parametrize("x", [torch.zeros(10), torch.zeros(0), -torch.ones(4)])
def test_samples_without_anything_to_represent_still_give_a_positive_step(x: torch.Tensor) -> None:
    assert (
        search_activation_scale(seen(x), lambda _: UINT8.grid(4, negative=False)) >= SMALLEST_SCALE
    )


def test_a_lopsided_activation_gets_its_best_range() -> None:
    x = torch.nn.functional.hardswish(
        3 * torch.randn(2000, generator=torch.Generator().manual_seed(0))
    )
    for bits in (3, 4, 8):
        scale, grid = search_activation_range(seen(x), UINT8.grid(bits))
        assert (grid.bits, grid.lo, grid.hi) == (bits, 0, 2**bits - 1)
        reference = x.double().numpy()
        best = min(
            error(reference, (high - low) / grid.hi, -zero, grid.hi - zero)
            for low in np.linspace(reference.min(), 0, 40)
            for high in np.linspace(0.3 * reference.max(), reference.max(), 40)
            for zero in [int(np.rint(-low / ((high - low) / grid.hi)))]
        )
        # ends are searched one after the other, against a full search of 1,600 pairs
        assert error(reference, scale, *grid.limits) <= 1.1 * best
        symmetric = UINT8.grid(bits)
        step = search_activation_scale(seen(x), lambda _, grid=symmetric: grid)
        assert error(reference, scale, *grid.limits) < 0.8 * error(
            reference, step, *symmetric.limits
        )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_range_without_one_sign_keeps_real_zero(sign: float) -> None:
    x = sign * torch.rand(1000, generator=torch.Generator().manual_seed(0))
    scale, grid = search_activation_range(seen(x), UINT8.grid(8))
    assert grid.zero_point == (0 if sign > 0 else 255)
    assert scale == pytest.approx(1 / 255, rel=0.01)  # the samples reach 0.999


def test_a_range_of_nothing_but_zeros_is_the_grid_as_it_was() -> None:
    assert search_activation_range(seen(torch.zeros(5)), UINT8.grid(4)) == (1.0, UINT8.grid(4))


@pytest.mark.parametrize("spread", [0.05, 0.5, 3.0, 12.0])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_that_begin_at_minus_a_unit_get_their_best_number_of_steps(
    bits: int, spread: float
) -> None:
    x = torch.randn(3000, generator=torch.Generator().manual_seed(1)) * spread
    x = x.clamp_min(-3.0)
    grid, codes = UINT8.grid(bits), 2**bits - 1
    found = search_unit_steps(seen(x), grid, 3.0)

    def of(steps: int) -> float:
        return error(x.double().numpy(), 3.0 / steps, -steps, codes - steps)

    best = min(of(steps) for steps in range(1, codes))
    # the search is coarse before it is fine, and the error of whole steps is a little jagged
    assert of(found) <= 1.05 * best


def test_without_values_there_are_as_many_steps_below_zero_as_above() -> None:
    assert search_unit_steps(seen(torch.zeros(5)), UINT8.grid(8), 3.0) == 127
