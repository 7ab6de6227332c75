"""Every scale that a search tries, written out in numpy: the one that it returns is the best.

The candidates are those that the file's top names; no other one of them has a smaller error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dfqonnx.core.quantization import INT8, SMALLEST_SCALE, UINT8, IntegerRange, count_steps
from dfqonnx.core.quantization_plan import ActivationQuantizer
from dfqonnx.fakequant.observed_values import NORM, ObservedValues, WeightedValues
from dfqonnx.fakequant.quantizer import FakeQuantizer
from dfqonnx.fakequant.scale_search import (
    SEARCHED,
    search_activation_range,
    search_activation_scale,
    search_row_scales,
    search_weight_scales,
)

Floats = NDArray[np.float64]
COARSE = [2.0 ** (-k / 8) for k in range(49)]
FINE = [2.0 ** (k / 64) for k in range(-7, 8)]
SAME = 1 + 1e-4  # sums of float32 against double precision


def error(
    x: Floats, scale: float, limits: tuple[int, int], weights: Floats | float, norm: float = NORM
) -> float:
    rounded = np.clip(np.rint(x / scale), *limits) * scale
    return float((weights * np.abs(rounded - x) ** norm).sum())


def rows_of_every_kind() -> torch.Tensor:
    """Rows (16, 40): both signs, one sign, nothing, an outlier, tiny and huge numbers."""
    x = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))
    x[1], x[2], x[3] = x[1].abs(), -x[2].abs(), 0.0
    x[4, 0], x[5, 0] = 60.0, -60.0
    x[6], x[7] = x[6] * 1e-5, x[7] * 1e8
    x[8] = 0.25
    x[9, 1:] = 0.0
    return x


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("norm", "lowest", "count"), [(NORM, 0.2, 81), (2.0, 0.4, 31)])
@pytest.mark.parametrize("weighed", [False, True])
def test_no_other_scale_of_a_row_has_a_smaller_error(
    bits: int, norm: float, lowest: float, count: int, weighed: bool
) -> None:
    rows, limits = rows_of_every_kind(), INT8.grid(bits).limits
    importance = torch.rand(40, generator=torch.Generator().manual_seed(1)) if weighed else None
    found = search_row_scales(
        rows, limits, norm=norm, lowest=lowest, count=count, importance=importance
    )
    assert found.shape == (16, 1)
    weights = 1.0 if importance is None else importance.double().numpy()
    for row, scale in zip(rows.double().numpy(), found[:, 0].tolist(), strict=True):
        widest = max(row.max() / limits[1], row.min() / limits[0], SMALLEST_SCALE)
        tried = [widest * (lowest + (1 - lowest) * k / (count - 1)) for k in range(count)]
        assert min(abs(scale / each - 1) for each in tried) < 1e-6
        best = min(error(row, each, limits, weights, norm) for each in tried)
        rounding = 40 * (2.0**-22 * np.abs(row).max()) ** norm  # of float32
        assert error(row, scale, limits, weights, norm) <= SAME * best + rounding


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_numbers_on_a_grid_get_the_scale_of_that_grid(bits: int) -> None:
    """Its error is zero, and it is the widest of those that are tried."""
    low, high = INT8.grid(bits).limits
    row = 0.5 * torch.arange(low, high + 1).float()
    assert search_row_scales(row[None], (low, high)).item() == 0.5
    assert search_row_scales(row[None, 1:], (low, high)).item() == 0.5
    assert search_weight_scales(row[None], INT8.grid(bits), 0).item() == 0.5


def test_of_equally_good_scales_the_first_one_is_taken() -> None:
    found = search_row_scales(torch.zeros(2, 5), (-8, 7), lowest=0.5, count=3)
    assert found.flatten().tolist() == pytest.approx([0.5 * SMALLEST_SCALE] * 2, rel=1e-6)


def test_a_number_of_no_importance_is_clipped() -> None:
    x = 2 * torch.rand(101, generator=torch.Generator().manual_seed(0)) - 1
    row = torch.cat([x, torch.tensor([3.0])])
    importance = torch.ones(102)
    importance[-1] = 0.0
    free = search_row_scales(row[None], (-128, 127), importance=importance).item()
    assert free * 127 < 1.2
    assert search_row_scales(row[None], (-128, 127)).item() * 127 > 2.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_channel_is_searched_by_itself_on_any_axis(axis: int) -> None:
    weight = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(3))
    found = search_weight_scales(weight, INT8.grid(4), axis)
    alone = [
        search_weight_scales(weight.select(axis, k)[None], INT8.grid(4), 0).item()
        for k in range(weight.shape[axis])
    ]
    assert found.tolist() == alone


# ---- activations --------------------------------------------------------------------------------


def values_of_every_kind(seed: int) -> tuple[Floats, Floats]:
    """300 values, lopsided in their own way, and what each counts."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=300) * rng.uniform(0.1, 3) + rng.uniform(-2, 2)
    if seed % 3 == 1:
        x[0] *= 20
    if seed % 3 == 2:
        x = np.where(x < 0, 0.1 * x, x)
    return x.astype(np.float32).astype(np.float64), rng.uniform(0, 1, 300) ** 4


def tensors(x: Floats, weights: Floats) -> WeightedValues:
    return WeightedValues(torch.from_numpy(x).float(), torch.from_numpy(weights).float())


GRIDS: dict[str, Callable[[float], IntegerRange]] = {
    "unsigned 4": lambda _: UINT8.grid(4, negative=False),
    "signed 3": lambda _: UINT8.grid(3),
    "signed 8": lambda _: INT8.grid(8),
    "below a Clip": lambda scale: UINT8.grid(4, negative=False).below(1.5, scale),
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("seed", range(6))
def test_no_other_scale_of_an_activation_has_a_smaller_error(name: str, seed: int) -> None:
    x, weights = values_of_every_kind(seed)
    grid = GRIDS[name]
    scale = search_activation_scale(tensors(x, weights), grid)

    def cost(each: float) -> float:
        return error(x, each, grid(each).limits, weights)

    low, high = grid(SMALLEST_SCALE).limits
    widest = max(x.max() / high, x.min() / low if low else 0.0)
    coarse = min((widest * ratio for ratio in COARSE), key=cost)
    fine = [min(coarse * ratio, widest) for ratio in FINE]
    assert cost(scale) <= SAME * min(map(cost, [coarse, *fine]))
    assert scale <= widest * (1 + 1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", range(6))
def test_no_range_on_the_way_of_the_search_has_a_smaller_error(bits: int, seed: int) -> None:
    x, weights = values_of_every_kind(seed)
    grid = UINT8.grid(bits)
    scale, found = search_activation_range(tensors(x, weights), grid)
    widest = min(x.min(), 0.0), max(x.max(), 0.0)

    def cost(ends: tuple[float, float]) -> float:
        step = (ends[1] - ends[0]) / grid.hi
        zero = int(np.rint(-ends[0] / step))
        return error(x, step, (-zero, grid.hi - zero), weights)

    best = widest
    for ratios in (COARSE, FINE):
        for low, high in ((True, True), (True, False), (False, True)):
            tried = [
                (
                    max(widest[0], best[0] * (r if low else 1)),
                    min(widest[1], best[1] * (r if high else 1)),
                )
                for r in ratios
            ]
            best = min([best, *tried], key=cost)
    assert error(x, scale, found.limits, weights) <= 1.01 * cost(best)  # ties of float32 on the way
    assert scale * (found.hi - found.lo) <= (widest[1] - widest[0]) * (1 + 1e-6)
    assert found.lo <= found.zero_point <= found.hi


def test_a_range_is_searched_with_what_values_count() -> None:
    x = np.concatenate([np.linspace(-1, 1, 200), [50.0, -30.0]])
    weights = np.concatenate([np.ones(200), [0.0, 0.0]])
    scale, grid = search_activation_range(tensors(x, weights), UINT8.grid(8))
    low, high = (code * scale for code in grid.limits)
    assert low > -1.5
    assert high < 1.5
    assert search_activation_scale(tensors(x, weights), lambda _: INT8.grid(8)) * 127 < 1.5


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_range_of_values_far_from_zero_reaches_to_zero(sign: float) -> None:
    x = sign * (4 + torch.rand(300, generator=torch.Generator().manual_seed(0)))
    scale, grid = search_activation_range(WeightedValues(x, torch.ones_like(x)), UINT8.grid(8))
    reach = [code * scale for code in grid.limits]
    assert reach[sign > 0] == pytest.approx(float(x.abs().max()) * sign, rel=0.05)
    assert reach[sign < 0] == 0.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_many_values_the_extremes_count(sign: float) -> None:
    x = torch.rand(3 * SEARCHED + 7, generator=torch.Generator().manual_seed(0)) - 0.5
    x[101] = sign * 4.0  # no multiple of the stride
    seen = WeightedValues(x, torch.ones_like(x).index_fill(0, torch.tensor([101]), 1e9))
    scale = search_activation_scale(seen, lambda _: INT8.grid(8))
    assert scale * 128 > 3.9, "what counts most is not clipped"
    step, grid = search_activation_range(seen, UINT8.grid(8))
    assert max(map(abs, grid.limits)) * step > 3.9


def test_zeros_between_the_values_shift_no_weights() -> None:
    x, weights = torch.zeros(200), torch.full((200,), 9.0)
    x[1::2] = torch.rand(100, generator=torch.Generator().manual_seed(0))
    x[-1], weights[1::2], weights[-1] = 100.0, 1.0, 0.0
    grid = UINT8.grid(8, negative=False)
    assert 255 * search_activation_scale(WeightedValues(x, weights), lambda _: grid) < 2


# ---- what values count --------------------------------------------------------------------------


def test_a_sampled_value_stands_for_those_that_it_was_sampled_from() -> None:
    x = torch.ones(2, 400_000)
    x[:, 12_345] = 10.0
    found = ObservedValues()
    found.add(x, probe=False)
    seen = found.weighted(0.0)
    power = seen.weights * seen.values.abs() ** NORM
    share = float(power[seen.values == 10.0].sum() / power.sum())
    # a stride of 49: the last few columns may be left out or count once too often
    assert share == pytest.approx(10**NORM / (399_999 + 10**NORM), rel=0.01)


def test_without_probes_their_probability_is_that_of_inputs() -> None:
    found = ObservedValues()
    found.add(torch.rand(3, 10, generator=torch.Generator().manual_seed(0)), probe=False)
    for probability in (0.05, 1.0):
        weights = found.weighted(probability).weights
        assert torch.equal(weights, found.weighted(0.0).weights)
        assert float(weights.sum()) > 0


# ---- ranges that are given ----------------------------------------------------------------------


@pytest.mark.parametrize("grid", [
    UINT8.grid(8), UINT8.grid(3), IntegerRange(8, -128, 127, 0), IntegerRange(4, -8, 7, -8),
], ids=str)  # fmt: skip
@pytest.mark.parametrize(("low", "high"), [(-1.0, 4.0), (0.0, 2.0), (-3.0, 0.0), (-1e-9, 1e-9)])
def test_a_span_has_a_code_for_both_of_its_ends_and_for_zero(
    grid: IntegerRange, low: float, high: float
) -> None:
    scale, found = grid.spanning(low, high)
    assert (found.bits, found.lo, found.hi) == (grid.bits, grid.lo, grid.hi)
    assert scale == max((high - low) / (grid.hi - grid.lo), SMALLEST_SCALE)
    assert grid.lo <= found.zero_point <= grid.hi
    for end, code in zip((low, high), found.limits, strict=True):
        if scale > SMALLEST_SCALE:
            assert abs(code * scale - end) <= scale / 2 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("scale", "steps"), [(1.0, 3), (0.9, 3), (2.9, 1), (100.0, 1), (0.01, 128)]
)
def test_a_unit_has_at_least_one_step_and_no_more_than_there_are_codes(
    scale: float, steps: int
) -> None:
    assert count_steps(3.0, scale, most=128) == steps


def quantizer(grid: IntegerRange, **options: float | bool) -> FakeQuantizer:
    spec = ActivationQuantizer(name="v", tensor="v", grid=grid, **options)  # type: ignore[arg-type]
    return FakeQuantizer(spec)


@pytest.mark.parametrize(("low", "high", "scale"), [
    (-4.0, 1.0, 0.5), (-1.0, 7.0, 1.0), (-8.0, 7.0, 1.0), (2.0, 3.5, 0.5), (-4.0, -2.0, 0.5),
    (0.0, 0.0, SMALLEST_SCALE),
])  # fmt: skip
def test_a_given_range_fits_on_both_sides_of_a_fixed_zero_point(
    low: float, high: float, scale: float
) -> None:
    q = quantizer(UINT8.grid(4))  # -8 to 7
    q.set_range(low, high)
    assert q.params().scale == pytest.approx(scale, rel=1e-5)  # through a float32 logarithm
    assert q.params().zero_point == 8


@pytest.mark.parametrize(
    ("low", "high", "zero"), [(2.0, 5.0, 0), (-5.0, -2.0, 15), (-5.0, 10.0, 5)]
)
def test_a_given_range_holds_zero_where_the_zero_point_is_open(
    low: float, high: float, zero: int
) -> None:
    q = quantizer(UINT8.grid(4), asymmetric=True)
    q.set_range(low, high)
    assert q.params().zero_point == zero
    assert q.params().scale == pytest.approx((max(high, 0) - min(low, 0)) / 15, rel=1e-5)


def test_calibration_moves_an_open_zero_point_and_leaves_a_fixed_one() -> None:
    x = torch.linspace(-1, 14, 300)
    seen = WeightedValues(x, torch.ones_like(x))
    for open_, zero in ((True, 1), (False, 8)):
        q = quantizer(UINT8.grid(4), asymmetric=open_)
        q.calibrate(seen)
        assert q.params().zero_point == zero


def test_what_a_hard_swish_makes_zero_of_widens_no_range() -> None:
    x = torch.linspace(-3, 6, 200)
    far = torch.cat([x, torch.full((50,), -40.0)])
    near = torch.cat([x, torch.full((50,), -3.0)])
    scales = []
    for values in (far, near):
        q = quantizer(UINT8.grid(8), unit=3.0)
        q.calibrate(WeightedValues(values, torch.ones_like(values)))
        scales.append(float(q.scale().detach()))
    assert scales[0] == scales[1]


@pytest.mark.parametrize(("grid", "kind"), [
    (INT8.grid(8), torch.int8), (INT8.grid(4), torch.int8), (UINT8.grid(8), torch.uint8),
])  # fmt: skip
def test_codes_have_the_type_that_holds_them(grid: IntegerRange, kind: torch.dtype) -> None:
    q = quantizer(grid)
    q.set_scale(0.1)
    x = torch.tensor([-0.8, 0.0, 0.7])
    codes = q.codes(x)
    assert codes.dtype == kind
    assert ((codes.float() - grid.zero_point) * 0.1).tolist() == pytest.approx(x.tolist(), abs=1e-6)
