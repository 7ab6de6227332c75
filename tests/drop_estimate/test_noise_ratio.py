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
