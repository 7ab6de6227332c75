"""Intervals against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student_t

from dfqonnx.evaluation.statistics import (
    agreement,
    divergence,
    drop,
    log_probabilities,
    paired_drop,
    sign_test,
    student_quantile,
    top1,
    wilson_bounds,
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
    teacher, student = teacher.argmax(1), student.argmax(1)
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


def test_top1_is_in_percent_with_the_bounds_of_scipy() -> None:
    labels = np.array([0] * 30 + [1] * 70)
    found = top1(np.ones(100, np.int64), labels)
    reference = binomtest(70, 100).proportion_ci(0.95, method="wilson")
    assert (found.value, found.n) == (70.0, 100)
    assert found.low == pytest.approx(100 * reference.low, abs=1e-9)
    assert found.high == pytest.approx(100 * reference.high, abs=1e-9)


def test_the_drop_counts_images_that_only_one_of_both_gets_right() -> None:
    labels = np.zeros(10, np.int64)
    teacher, student = np.zeros((2, 10, 2))
    teacher[:, 1], student[:, 1] = -1.0, -1.0  # both are right everywhere
    student[:4, 1] = 1.0  # but the student on four images
    teacher[9, 1] = 1.0  # and the teacher on one
    found = drop(teacher.argmax(1), student.argmax(1), labels)
    assert (found.only_teacher, found.only_student, found.points.n) == (4, 1, 10)
    assert found.points.value == pytest.approx(30.0)
    assert found.p_value == pytest.approx(binomtest(4, 5).pvalue)


@given(b=st.integers(0, 40), c=st.integers(0, 40), more=st.integers(0, 60),
       confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]))  # fmt: skip
def test_bonett_and_price_written_out(b: int, c: int, more: int, confidence: float) -> None:
    n = b + c + more
    if not n:
        return
    found = paired_drop(b, c, n, confidence=confidence).points
    z = norm.ppf((1 + confidence) / 2)
    first, second = (b + 1) / (n + 2), (c + 1) / (n + 2)
    reach = z * ((first + second - (first - second) ** 2) / (n + 2)) ** 0.5
    assert found.value == pytest.approx(100 * (b - c) / n, abs=1e-9)
    assert found.low == pytest.approx(max(-100, 100 * (first - second - reach)), abs=1e-6)
    assert found.high == pytest.approx(min(100, 100 * (first - second + reach)), abs=1e-6)


def test_bounds_of_a_drop_end_at_a_hundred_points() -> None:
    assert paired_drop(1, 0, 1, confidence=0.999999).points.high == 100.0
    assert paired_drop(0, 1, 1, confidence=0.999999).points.low == -100.0


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_takes_its_confidence(confidence: float) -> None:
    reference = binomtest(3, 17).proportion_ci(confidence, method="wilson")
    found = wilson_interval(3, 17, confidence=confidence)
    # both round in double precision, each in an order of its own
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-13)
    assert found.n == 17


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 63, 128, 999, 50_000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_quantiles_of_students_distribution_are_scipys(confidence: float, freedom: int) -> None:
    reference = student_t.ppf(0.5 + confidence / 2, freedom)
    # sums of up to 25,000 terms, each rounded in double precision
    assert student_quantile(confidence, freedom) == pytest.approx(reference, rel=1e-10)


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 9), (9, 9), (5, 9), (600, 1100),
                                         (25_300, 50_000), (49_990, 50_000)])  # fmt: skip
def test_the_sign_test_is_the_exact_binomial_one(hits: int, n: int) -> None:
    one_sided = binomtest(hits, n, alternative="greater").pvalue
    # logarithms of factorials of 50,000 are near 500,000: eleven digits are left of double's 16
    assert sign_test(hits, n) == pytest.approx(one_sided, rel=1e-9, abs=1e-300)
    two_sided = binomtest(hits, n).pvalue
    assert paired_drop(hits, n - hits, n).p_value == pytest.approx(two_sided, rel=1e-9, abs=1e-300)


def test_agreement_counts_equal_classes() -> None:
    assert agreement(np.array([1, 0, 2, 0]), np.array([1, 2, 2, 0])) == wilson_interval(3, 4)


@given(st.integers(1, 60), st.floats(0, 1))
def test_wilsons_bounds_of_any_share_lie_between_those_of_whole_counts(n: int, part: float) -> None:
    hits = int(part * n)
    low, high = wilson_bounds(hits / n, n)
    reference = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    between = wilson_bounds(min(1.0, (hits + 0.5) / n), n)
    assert between[0] >= low
    assert between[1] >= high


def test_the_divergence_is_taken_from_the_teacher() -> None:
    p, q = np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert divergence(p, q) == pytest.approx(expected)
    assert divergence(q, p) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))


def test_only_rows_that_are_probabilities_are_taken_for_some() -> None:
    shares = np.array([[0.25, 0.75], [0.0, 1.0]])
    assert log_probabilities(shares) == pytest.approx(np.log(np.maximum(shares, 1e-12)))
    logits = np.array([[-1.0, 2.0], [0.5, 0.5]])  # they sum to one, but one is negative
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert log_probabilities(logits) == pytest.approx(np.log(softmax))
    positive = np.array([[0.5, 0.5], [2.0, 1.0]])  # not all rows sum to one
    softmax = np.exp(positive) / np.exp(positive).sum(1, keepdims=True)
    assert log_probabilities(positive) == pytest.approx(np.log(softmax))
    nearly = np.array([[0.4, 0.6005]])  # rounded by a half-precision softmax
    assert log_probabilities(nearly) == pytest.approx(np.log(nearly))


@pytest.mark.parametrize("n", range(1, 100))
def test_shares_of_none_and_of_all_have_bounds_at_the_very_end(n: int) -> None:
    assert wilson_interval(0, n).low == 0.0
    assert wilson_interval(n, n).high == 1.0


def test_images_that_both_get_wrong_or_right_are_no_disagreement() -> None:
    labels = np.zeros(20, np.int64)
    teacher = np.repeat([0, 0, 1, 1, 2], 4)
    student = np.repeat([0, 1, 0, 1, 3], 4)  # both right, one or the other, both wrong twice
    found = drop(teacher, student, labels)
    assert (found.only_teacher, found.only_student, found.points.n) == (4, 4, 20)
    assert found.points.value == 0
