"""Noise over signal, against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from dfqonnx.evaluation.drop_estimate.fixed_images import FAMILIES, FEWEST, MOST, make_fixed_images
from dfqonnx.evaluation.drop_estimate.noise_ratio import (
    certainty,
    fixed_images_ratio,
    real_images_ratio,
    select_certain,
)

RNG = np.random.default_rng(0)


def answers(n: int = 4000, classes: int = 10) -> np.ndarray:
    return 3 * RNG.normal(size=(n, classes))


@pytest.mark.parametrize("ratio", [fixed_images_ratio, real_images_ratio])
def test_equal_answers_have_no_noise_whatever_their_scale(ratio) -> None:  # type: ignore[no-untyped-def]
    t = answers()
    # a correlation of 1 up to float64 sums
    assert ratio(t, t) == pytest.approx(0, abs=1e-12)
    assert ratio(t, 0.5 * t + 7) == pytest.approx(0, abs=1e-12)


def test_independent_noise_has_the_ratio_of_its_power() -> None:
    t = answers(n=200, classes=1000)
    s = t + 0.5 * 3 * RNG.normal(size=t.shape)
    # rho^2 = 1 / (1 + 0.25); a cosine of 1,000 numbers scatters by about 0.01, their mean over 200
    # images by a tenth of that
    assert real_images_ratio(t, s) == pytest.approx(0.25, rel=0.03)
    # the ratio on fixed images is of the images with the clearest answers, whose signal is larger
    few = answers()
    assert 0.1 < fixed_images_ratio(few, few + 0.5 * 3 * RNG.normal(size=few.shape)) < 0.25


def test_strangers_are_all_noise() -> None:
    assert fixed_images_ratio(answers(), answers()) > 100


def test_certainty_is_one_for_one_class_and_zero_for_none() -> None:
    sure = np.zeros((5, 10))
    sure[:, 3] = 1000.0
    assert certainty(sure) == pytest.approx(1, abs=1e-9)
    assert certainty(np.zeros((5, 10))) == pytest.approx(0, abs=1e-12)
    # two equal classes of four: entropy log 2 of log 4
    half = np.array([[1000.0, 1000.0, 0.0, 0.0]])
    assert certainty(half) == pytest.approx(0.5, abs=1e-9)


def test_of_every_class_the_surer_half_is_chosen() -> None:
    t = np.full((10, 3), 0.0)
    t[:, 1] = np.arange(1, 11)
    places, weights = select_certain(t)
    assert sorted(places) == [5, 6, 7, 8, 9]
    assert weights.sum() == pytest.approx(1)


def test_probes_are_of_every_family_in_equal_numbers_and_always_the_same() -> None:
    found = make_fixed_images((32, 32, 3))
    assert tuple(found) == FAMILIES
    assert {part.shape for part in found.values()} == {(MOST, 32, 32, 3)}
    again = make_fixed_images((32, 32, 3))
    assert all(np.array_equal(found[name], again[name]) for name in FAMILIES)
    large = make_fixed_images((1024, 1024, 1))
    assert {len(part) for part in large.values()} == {FEWEST}


def test_the_ratio_on_fixed_images_written_out() -> None:
    rng = np.random.default_rng(5)
    t, s = 2 * rng.normal(size=(2, 40, 3))
    log_t, log_s = (v - np.log(np.exp(v).sum(1, keepdims=True)) for v in (t, s))
    chosen = log_t.argmax(1)
    rows, weights = [], []
    for label in range(3):
        own = sorted(
            np.flatnonzero(chosen == label), key=lambda k: -np.diff(np.sort(log_t[k])[-2:])[0]
        )
        kept = own[: max(min(4, len(own)), int(np.ceil(0.5 * len(own))))]
        rows += kept
        weights += [len(kept) ** -0.5] * len(kept)
    w = np.array(weights)[:, None] / sum(weights)
    a, b = (v[rows] - v[rows].mean(1, keepdims=True) for v in (log_t, log_s))
    a, b = a - (w * a).sum(0), b - (w * b).sum(0)
    rho = (w * a * b).sum() / np.sqrt((w * a * a).sum() * (w * b * b).sum())
    rho = min(1.0, max(0.05, rho))
    assert fixed_images_ratio(t, s) == pytest.approx((1 - rho**2) / rho**2, rel=1e-9)


def test_the_ratio_on_real_images_is_of_the_mean_cosine() -> None:
    t = np.log(np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]))
    s = np.log(np.array([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4]]))
    a, b = (v - v.mean(1, keepdims=True) for v in (t, s))
    cosines = [(x @ y) / np.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
    rho = float(np.mean(cosines))
    assert real_images_ratio(t, s) == pytest.approx((1 - rho**2) / rho**2, rel=1e-9)


def test_a_lost_signal_has_the_largest_ratio_and_no_answer_counts_as_none() -> None:
    t = answers(n=50, classes=4)
    most = (1 - 0.05**2) / 0.05**2
    assert real_images_ratio(t, -t) == pytest.approx(most)
    assert real_images_ratio(t, np.zeros_like(t)) == pytest.approx(most)
    assert fixed_images_ratio(t, np.zeros_like(t)) == pytest.approx(most)
    half = t.copy()
    half[::2] = 0.0  # a cosine of 0 on every other image, else of 1
    assert real_images_ratio(t, half) == pytest.approx(3.0)  # rho = 1/2


def test_of_a_class_with_few_images_four_are_kept_and_classes_weigh_as_roots() -> None:
    t = np.zeros((16, 3))
    t[:5, 0] = np.arange(5, 10)  # five of class 0: four are kept
    t[5:7, 1] = (2.0, 1.0)  # two of class 1: both
    t[7:, 2] = np.arange(1, 10)  # nine of class 2: five, the surest
    places, weights = select_certain(t)
    assert sorted(places.tolist()) == [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15]
    by_class = [weights[t[places].argmax(1) == k] for k in range(3)]
    assert [len(w) for w in by_class] == [4, 2, 5]
    total = 4 * 4**-0.5 + 2 * 2**-0.5 + 5 * 5**-0.5
    for w in by_class:
        assert w == pytest.approx(np.full(len(w), len(w) ** -0.5 / total))
