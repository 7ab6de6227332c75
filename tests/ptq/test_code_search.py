"""The search for codes and scales against exhaustive search, and what no step of it may do."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from dfqonnx.fakequant.scale_search import search_row_scales
from dfqonnx.ptq import code_search
from dfqonnx.ptq.code_search import round_columns, row_errors, search_codes

LIMITS = [(-2, 1), (-4, 3), (-8, 7)]


def problem(rows: int, size: int, *, groups: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return weights (G, O, M) and second moments (G, M, M) of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(groups, rows, size, generator=generator, dtype=torch.double)
    x = torch.randn(groups, size, 50 * size, generator=generator, dtype=torch.double)
    x = x + 2 * x.roll(1, 1)
    return weight, x @ x.transpose(1, 2) / x.shape[2]


def start(weight: Tensor, limits: tuple[int, int]) -> Tensor:
    return search_row_scales(weight, limits, norm=2.0, lowest=0.25, count=61)


@pytest.mark.parametrize("limits", LIMITS)
def test_no_single_code_can_be_improved_and_no_row_is_worse_than_its_columns_rounded(
    limits: tuple[int, int],
) -> None:
    weight, moments = problem(12, 20, groups=2)
    scales = start(weight, limits)
    columns = round_columns(weight, moments, scales, limits)
    before = row_errors(weight, moments, columns * scales)
    codes, found = search_codes(weight, moments, scales, limits)
    after = row_errors(weight, moments, codes * found)
    slack = 1 + 1e-9  # float64 sums of 20 terms in another order
    assert bool((after <= before * slack).all())
    assert float(after.sum()) < 0.95 * float(before.sum())
    for column, step in itertools.product(range(20), (-1, 1)):
        moved = codes.clone()
        moved[:, :, column] = (moved[:, :, column] + step).clamp(*limits)
        assert bool((after <= row_errors(weight, moments, moved * found) * slack).all())


@pytest.mark.parametrize("seed", range(4))
def test_codes_and_scales_come_close_to_the_best_there_are(seed: int) -> None:
    weight, moments = problem(3, 4, seed=seed)
    codes, scales = search_codes(weight, moments, start(weight, (-4, 3)), (-4, 3))
    mine = row_errors(weight, moments, codes * scales)[0]  # (O,)
    every = torch.tensor(list(itertools.product(range(-4, 4), repeat=4)), dtype=torch.double)
    read = every @ moments[0]  # (4096, M)
    own = (read * every).sum(1).clamp_min(1e-12)  # c H c^T
    both = read @ weight[0].t()  # (4096, O): c H w^T
    whole = ((weight[0] @ moments[0]) * weight[0]).sum(1)  # w H w^T
    best = (whole - both.clamp_min(0).square() / own[:, None]).amin(0)  # at each one's best scale
    assert bool((mine >= best * (1 - 1e-9)).all())
    # four inputs leave a descent few ways out of a local optimum: a fifth is what that may cost
    assert float(mine.sum()) <= 1.2 * float(best.sum()) + 1e-3 * float(whole.sum())


def test_every_code_is_a_whole_number_within_the_limits_and_every_scale_positive() -> None:
    weight, moments = problem(8, 9, groups=3)
    codes, scales = search_codes(weight, moments, start(weight, (-2, 1)), (-2, 1))
    assert codes.shape == weight.shape
    assert scales.shape == (3, 8, 1)
    assert torch.equal(codes, codes.round())
    assert float(codes.min()) >= -2
    assert float(codes.max()) <= 1
    assert bool((scales > 0).all())


def test_rows_do_not_depend_on_each_other() -> None:
    weight, moments = problem(6, 10)
    scales = start(weight, (-8, 7))
    together, _ = search_codes(weight, moments, scales, (-8, 7))
    alone, _ = search_codes(weight[:, 2:3], moments, scales[:, 2:3], (-8, 7))
    assert torch.equal(together[:, 2:3], alone)


def test_weights_of_zero_keep_their_scales_and_get_codes_of_zero() -> None:
    _, moments = problem(1, 5)
    scales = torch.full((1, 3, 1), 0.25, dtype=torch.double)
    codes, found = search_codes(torch.zeros(1, 3, 5).double(), moments, scales, (-8, 7))
    assert torch.equal(codes, torch.zeros_like(codes))
    assert bool((found > 0).all())


def test_eight_bits_only_have_their_columns_rounded() -> None:
    weight, moments = problem(4, 16)
    scales = start(weight, (-128, 127))
    codes, found = search_codes(weight, moments, scales, (-128, 127))
    assert torch.equal(found, scales)
    assert torch.equal(codes, round_columns(weight, moments, scales, (-128, 127)))


@pytest.mark.parametrize(("work", "searched"), [(4 * 16**2, True), (4 * 16**2 - 1, False)])
def test_what_would_take_minutes_only_has_its_columns_rounded(
    work: int, searched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_search, "WORK", work)
    weight, moments = problem(4, 16)
    scales = start(weight, (-8, 7))
    _, found = search_codes(weight, moments, scales, (-8, 7))
    assert torch.equal(found, scales) is not searched


def test_orthogonal_inputs_leave_every_column_to_itself() -> None:
    weight, _ = problem(4, 6)
    moments = torch.diag(torch.linspace(0.5, 2, 6)).double()[None]
    codes, scales = search_codes(weight, moments, start(weight, (-8, 7)), (-8, 7))
    assert torch.equal(codes, (weight / scales).round().clamp(-8, 7))
