"""Intervals from inputs drawn anew, against closed forms, SciPy, and how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, norm, t

from dfqonnx.evaluation.bootstrap import (
    DRAWS,
    draw_inputs,
    interval_of_draws,
    redraw,
    weighted_mean,
)
from dfqonnx.evaluation.statistics import Interval, paired_drop, wilson_bounds


def interval_of_mean(values: np.ndarray) -> Interval:
    n = len(values)
    found = interval_of_draws(*redraw(n, weighted_mean(values)), float(values.mean()), n)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [2, 7, 3000])
def test_every_draw_has_as_many_inputs_and_each_is_drawn_as_often(n: int) -> None:
    parts = list(draw_inputs(n))
    weights = np.concatenate(parts)
    assert weights.shape == (DRAWS, n)
    assert (len(parts) > 1) is (n == 3000), "many inputs are drawn in parts"
    assert (weights.sum(1) == n).all()
    mean = weights.mean(0)  # of 1,000 draws: standard error 0.03 each
    assert np.abs(mean - 1).max() < 5 / math.sqrt(DRAWS)
    again = np.concatenate(list(draw_inputs(n)))
    np.testing.assert_array_equal(weights, again)


def test_the_interval_of_a_mean_is_students_and_that_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(0).normal(5, 2, 60)
    found = interval_of_mean(values)
    reach = t.ppf(0.975, 59) * values.std(ddof=1) / math.sqrt(60)
    assert found.value == values.mean()
    # ends of 1,000 draws have a standard error of 0.07 deviations, 3.5 % of the reach
    assert found.high - found.value == pytest.approx(reach, rel=0.12)
    assert found.value - found.low == pytest.approx(reach, rel=0.12)
    reference = bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(1))
    low, high = reference.confidence_interval
    assert found.low == pytest.approx(low, abs=0.15 * reach)
    assert found.high == pytest.approx(high, abs=0.15 * reach)


@pytest.mark.parametrize(("n", "draw"), [(4, "normal"), (30, "exponential"), (200, "exponential")])
def test_about_95_of_100_intervals_hold_the_truth(n: int, draw: str) -> None:
    rng = np.random.default_rng(n)
    truth, repeats = (0.0 if draw == "normal" else 1.0), 300
    intervals = (interval_of_mean(getattr(rng, draw)(size=n)) for _ in range(repeats))
    share = sum(each.low <= truth <= each.high for each in intervals) / repeats
    # standard error 1.3 points. Of four inputs no draw reaches beyond their extremes
    assert (0.8 if n == 4 else 0.91) <= share <= 0.985


def test_the_ends_are_the_quantiles_of_the_formula() -> None:
    draws = np.arange(1000.0)
    for value, n in ((499.5, 50), (300.5, 50), (700.5, 8)):
        below = math.floor(value + 1) / 1000
        bias, reach = norm.ppf(below), math.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1)
        found = interval_of_draws(draws, value, n)
        assert found is not None
        low, high = (999 * norm.cdf(2 * bias + sign * reach) for sign in (-1, 1))
        assert found.low == pytest.approx(min(low, value), abs=1e-6)
        assert found.high == pytest.approx(max(high, value), abs=1e-6)
    plain, biased = (interval_of_draws(draws, value, 50) for value in (499.5, 300.5))
    assert plain is not None
    assert biased is not None
    assert biased.high < plain.high, "draws above the figure say that the figure is too high"
    half = np.concatenate([np.zeros(500), np.arange(500.0)])  # a half equals the figure, 0
    found = interval_of_draws(half, 0.0, 50)
    assert found is not None
    end = norm.cdf(2 * norm.ppf(0.501 / 2) + math.sqrt(50 / 49) * t.ppf(0.975, 49))
    assert found.high == pytest.approx(np.quantile(half, end), abs=1e-6)
    tied = interval_of_draws(np.repeat([0.0, 1.0, 2.0], 300), 1.0, 50)  # half of the equal ones
    assert tied == Interval(1.0, 0.0, 2.0, 50)


def test_a_figure_outside_of_all_draws_is_still_in_its_interval() -> None:
    draws = np.linspace(0.0, 1.0, 1000)
    for value, low, high in ((2.0, 0.0, 2.0), (-1.0, -1.0, 1.0)):
        found = interval_of_draws(draws, value, 20)
        assert found is not None
        assert (min(found.low, 0.5), max(found.high, 0.5)) != (0.5, 0.5)
        assert found.low <= value <= found.high
        assert found.low >= low
        assert found.high <= high


def test_without_scatter_a_share_has_wilsons_interval_and_a_drop_bonett_and_prices() -> None:
    same = np.full(DRAWS, 1.0)
    wilson = binomtest(13, 13).proportion_ci(0.95, method="wilson")
    found = interval_of_draws(same, 1.0, 13, "share")
    assert found is not None
    assert (found.value, found.n, found.high) == (1.0, 13, 1.0)
    assert found.low == pytest.approx(wilson.low, abs=1e-12)
    lost = interval_of_draws(same - 1, 0.0, 13, "difference of shares")
    points = paired_drop(0, 0, 13).points
    assert lost == Interval(0.0, points.low / 100, points.high / 100, 13)
    assert interval_of_draws(same, 1.0, 13) == Interval(1.0, 1.0, 1.0, 13)
    assert interval_of_draws(-same, -1.0, 13, "share") == Interval(-1.0, -1.0, -1.0, 13)
    barely = same + np.where(np.arange(DRAWS) % 2, 1e-14, 0)  # rounding is no scatter
    assert interval_of_draws(barely, 1.0, 13, "share") == found


@pytest.mark.parametrize("n", [1, 3, 9, 10])
def test_a_share_of_few_inputs_reaches_as_far_as_wilsons_interval(n: int) -> None:
    draws = np.linspace(0.7, 0.9, DRAWS)
    found = interval_of_draws(draws, 0.8, n, "share")
    lost = interval_of_draws(draws - 0.8, 0.0, n, "difference of shares")
    assert found is not None
    assert lost is not None
    low, high = wilson_bounds(0.8, n)
    points = paired_drop(0, 0, n).points
    if n < 10:
        assert (found.low, found.high) == (min(low, found.low), max(high, found.high))
        assert found.low == pytest.approx(min(low, 0.7), abs=1e-9)
        assert found.high == pytest.approx(max(high, 0.9), abs=1e-9)
        assert (lost.low, lost.high) == (points.low / 100, points.high / 100)
    else:
        assert found.low > low
        assert found.high < high
        assert lost.high < points.high / 100


def test_what_is_not_known_has_no_interval() -> None:
    draws = np.arange(float(DRAWS))
    assert interval_of_draws(draws, None, 9) is None
    assert interval_of_draws(draws, 5.0, 1) is None
    assert interval_of_draws(draws, 5.0, 0) is None
    assert interval_of_draws(draws, 0.5, 0, "share") is None
    assert interval_of_draws(draws, 5.0, 2) is not None
    half = np.where(np.arange(DRAWS) < DRAWS // 2, draws, np.nan)
    assert interval_of_draws(half, 5.0, 9) is not None
    half[0] = np.inf
    assert interval_of_draws(half, 5.0, 9) is None


def test_figures_of_one_call_share_their_draws() -> None:
    values = np.random.default_rng(4).normal(size=40)
    first, second = redraw(40, weighted_mean(values), weighted_mean(values + 1))
    np.testing.assert_allclose(second - first, 1.0, atol=1e-12)
    assert np.ptp(first) > 0
