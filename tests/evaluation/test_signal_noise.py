"""The signal to noise ratio by hand, batch by batch, and how far it is known."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dfqonnx.evaluation.signal_noise import SignalAndNoise, sqnr_db


def varies(t: NDArray[Any]) -> float | None:
    found = SignalAndNoise()
    found.add(t, t)
    return found.variation


def test_a_tenth_of_the_deviation_as_noise_is_20_decibels_whatever_the_mean() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(50, 3, 4))
    expected = signal.var(0, ddof=1).sum() * 50 / 0.01 / signal.size
    for mean in (0.0, 1000.0, np.arange(12.0).reshape(3, 4)):
        found = sqnr_db(signal + mean, signal + mean + 0.1)
        assert found == pytest.approx(10 * math.log10(expected), abs=1e-6)
    assert sqnr_db(signal, signal) == math.inf


def test_a_constant_error_of_a_score_is_noise_and_its_mean_no_signal() -> None:
    # 2 and 4, so that the unbiased variance is 2; the error is 1 on both
    score = np.array([[2.0], [4.0]])
    assert sqnr_db(score, score + 1) == pytest.approx(10 * math.log10(2 * 2 / 2))
    assert sqnr_db(score, score - 1) == pytest.approx(10 * math.log10(2 * 2 / 2))


@given(st.integers(2, 6), st.floats(-1e3, 1e3), st.floats(0.1, 10))
def test_the_ratio_is_free_of_offset_and_scale(n: int, offset: float, scale: float) -> None:
    rng = np.random.default_rng(n)
    t, noise = rng.normal(size=(2, n, 5))
    plain, moved = sqnr_db(t, t + noise), sqnr_db(scale * t + offset, scale * (t + noise) + offset)
    assert plain is not None
    assert moved == pytest.approx(plain, abs=1e-6)  # 1e3 leaves 1e-13 of float64


def test_the_ratio_of_what_does_not_vary_or_is_one_input_is_not_defined() -> None:
    row = np.random.default_rng(1).normal(size=(1, 6)).astype(np.float32)
    same = np.repeat(row, 40, 0)
    assert sqnr_db(same, same + 0.1) is None
    assert sqnr_db(row, row + 0.1) is None
    assert sqnr_db(row, row) == math.inf
    rounded = same.copy()
    rounded[::2] *= np.float32(1 + 2**-23)  # the last bit of float32
    assert sqnr_db(rounded, same + 0.1) is None
    assert sqnr_db(np.full((3, 2), np.nan), same[:3, :2]) is None
    assert sqnr_db(same + np.arange(40)[:, None], np.full_like(same, np.inf)) is None


def test_variation_is_the_unbiased_variance_of_every_entry() -> None:
    t = np.random.default_rng(2).normal(size=(7, 2, 3)) + 5
    assert varies(t) == pytest.approx(7 * t.var(0, ddof=1).sum())


def test_variation_ends_where_float32_rounds() -> None:
    step = 2.0**-23
    t = np.full((2, 1), 1.0)
    for apart, known in ((0.5 * step, False), (3 * step, True)):
        t[1] = 1.0 + apart
        assert (varies(t) is not None) is known
    assert varies(np.array([[np.inf], [0.0]])) is None


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_batches_of_any_size_give_what_one_batch_gives(sizes: list[int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    t = rng.normal(size=(sum(sizes), 3)) + 100
    s = t + rng.normal(size=t.shape)
    found, places = SignalAndNoise(), np.cumsum([0, *sizes])
    for start, stop in pairwise(places):
        found.add(t[start:stop], s[start:stop])
    assert found.inputs == len(t)
    assert found.entries == t.size
    assert found.variation == pytest.approx(len(t) * t.var(0, ddof=1).sum(), rel=1e-9)
    assert found.decibels == pytest.approx(sqnr_db(t, s), abs=1e-9)


def test_the_interval_is_that_of_the_noise_where_all_inputs_are_alike_signals() -> None:
    # signal 1 on every input; noise power 1 or 3, so a draw is at -10 log10 of its mean power
    rng = np.random.default_rng(3)
    t = np.where(np.arange(200) % 2, 1.0, -1.0)[:, None]
    power = rng.choice([1.0, 3.0], 200)
    found = SignalAndNoise()
    found.add(t, t + np.sqrt(power)[:, None])
    interval = found.interval
    assert interval is not None
    assert interval.value == found.decibels
    error = 10 / math.log(10) * power.std(ddof=1) / power.mean() / math.sqrt(200)  # first order
    reach = (interval.high - interval.low) / 2
    assert reach == pytest.approx(1.972 * error, rel=0.1)  # t of 199; 1,000 draws give 5 %
    assert interval.n == 200
    later = SignalAndNoise()  # batches so small that means move, as on a stream
    for k in range(0, 200, 4):
        later.add(t[k : k + 4], (t + np.sqrt(power)[:, None])[k : k + 4])
    assert later.interval is not None
    assert later.interval.low == pytest.approx(interval.low, abs=0.05)


def test_what_is_infinite_or_not_defined_has_no_interval() -> None:
    t = np.arange(6.0)[:, None]
    for student in (t, np.full_like(t, np.nan)):
        found = SignalAndNoise()
        found.add(t, student)
        assert found.interval is None
    single = SignalAndNoise()
    single.add(t[:1], t[:1] + 1)
    assert single.interval is None


def test_draws_without_signal_and_noise_give_no_number_and_no_warning() -> None:
    found = SignalAndNoise()
    rng = np.random.default_rng(0)
    for k in range(4):
        t = rng.normal(size=(1, 8))
        found.add(t, t + 0.1 * k)  # the first is equal, and alone it is the mean of those so far
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = found.interval
    assert interval is not None
    assert interval.low < interval.value < interval.high
