"""Intervals against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqonnx.evaluation.statistics import (
    agreement,
    divergence,
    drop,
    paired_drop,
    sqnr_db,
    top1,
    variation,
    wilson_interval,
)

Z = 1.959963984540054  # 97.5 % point of the normal distribution


def test_wilson_bounds_are_those_of_the_formula() -> None:
    found = wilson_interval(8, 10)
    middle = (0.8 + Z**2 / 20) / (1 + Z**2 / 10)
    reach = Z / (1 + Z**2 / 10) * math.sqrt(0.8 * 0.2 / 10 + Z**2 / 400)
    # closed form against scipy, both double precision
    assert found.value == 0.8
    assert found.low == pytest.approx(middle - reach, abs=1e-12)
    assert found.high == pytest.approx(middle + reach, abs=1e-12)
    assert wilson_interval(10, 10).high == pytest.approx(1.0, abs=1e-12)


def test_the_paired_drop_and_its_bounds_by_hand() -> None:
    found = paired_drop(10, 2, 100)
    p, q = 11 / 102, 3 / 102
    reach = Z * math.sqrt((p + q - (p - q) ** 2) / 102)
    assert found.points.value == pytest.approx(8.0)
    assert found.points.low == pytest.approx(100 * (p - q - reach))
    assert found.points.high == pytest.approx(100 * (p - q + reach))
    # McNemar exact: twice the chance of at most 2 heads in 12 throws, 2 (1 + 12 + 66) / 4096
    assert found.p_value == pytest.approx(158 / 4096)


def test_no_disagreement_is_a_drop_of_zero_with_bounds_on_both_sides() -> None:
    found = paired_drop(0, 0, 50)
    assert found.points.value == 0.0
    assert found.points.low < 0.0 < found.points.high
    assert found.p_value == 1.0


@given(
    n=st.integers(1, 500),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_the_estimate_lies_within_its_bounds_and_swapping_the_models_flips_the_sign(
    n: int, parts: tuple[float, float]
) -> None:
    b = int(parts[0] * n)
    c = int(parts[1] * (n - b))
    found, swapped = paired_drop(b, c, n), paired_drop(c, b, n)
    assert -100.0 <= found.points.low <= found.points.high <= 100.0
    assert found.points.value == -swapped.points.value
    assert found.points.low == pytest.approx(-swapped.points.high, abs=1e-9)


def test_the_bounds_hold_the_true_drop_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        b, c, _rest = rng.multinomial(200, [0.08, 0.04, 0.88])
        points = paired_drop(int(b), int(c), 200).points
        hits += points.low <= 4.0 <= points.high
    # 400 draws: standard error 1.1 points around 95; three of them either way
    assert 0.91 <= hits / 400 <= 0.985


def test_counts_come_from_the_outputs() -> None:
    labels = np.array([0, 1, 2, 1])
    teacher = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    student = np.eye(3, dtype=np.float32)[[0, 1, 0, 1]]
    found = drop(teacher, student, labels)
    assert (found.only_teacher, found.only_student) == (1, 1)
    assert top1(teacher, labels).value == 75.0
    assert agreement(teacher, student).value == 0.5


def test_divergence_of_logits_and_of_probabilities_is_the_same() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 6, 4))
    p, q = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (first, second))
    expected = float((p * np.log(p / q)).sum(1).mean())
    assert divergence(first, second) == pytest.approx(expected, rel=1e-9)
    assert divergence(p, q) == pytest.approx(expected, rel=1e-9)
    assert divergence(first, first) == 0.0


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
    assert variation(t) == pytest.approx(7 * t.var(0, ddof=1).sum())
