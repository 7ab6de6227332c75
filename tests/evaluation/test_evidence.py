"""What classes and labels tell about images and labels: against simulation and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqonnx.evaluation.evidence import (
    best_permutation,
    chance_agreement,
    describe_classes,
    fit_permutation,
    is_at_chance,
    share_in_float,
)
from dfqonnx.evaluation.statistics import wilson_interval


def choose(labels: np.ndarray, accuracy: float, classes: int, seed: int) -> np.ndarray:
    """Return the classes that a model of this accuracy chooses, errors spread evenly."""
    rng = np.random.default_rng(seed)
    others = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(rng.random(len(labels)) < accuracy, labels, others)


def draw(n: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, n)


def test_independent_choices_agree_as_often_as_chance_says() -> None:
    rng = np.random.default_rng(0)
    first = rng.choice(4, 200_000, p=[0.7, 0.1, 0.1, 0.1])
    second = rng.choice(4, 200_000, p=[0.4, 0.4, 0.1, 0.1])
    found = chance_agreement(first, second, 4)
    assert found == pytest.approx(0.34, abs=0.005)  # 0.28 + 0.04 + 0.01 + 0.01
    assert found == pytest.approx((first == second).mean(), abs=0.005)  # 4 standard errors
    assert chance_agreement(np.array([1]), np.array([1]), 4) == 1.0
    # frequencies that never meet still leave a guess
    assert chance_agreement(np.zeros(9, int), np.ones(9, int), 4) == 0.25


@pytest.mark.parametrize(("hits", "n", "at_chance"), [(94, 1000, True), (60, 1000, True),
                                                      (140, 1000, False), (2, 13, True),
                                                      (13, 13, False)])  # fmt: skip
def test_a_share_is_at_chance_where_its_interval_covers_it_or_lies_below(
    hits: int, n: int, at_chance: bool
) -> None:
    assert is_at_chance(wilson_interval(hits, n), 0.1) is at_chance


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_best_permutation_is_that_of_trying_all(pairs: list[tuple[int, int]]) -> None:
    labels, chosen = np.array(pairs).T
    found = best_permutation(labels, chosen, 4)
    hits = {
        perm: int((np.array(perm)[labels] == chosen).sum())
        for perm in itertools.permutations(range(4))
    }
    assert hits[tuple(found.tolist())] == max(hits.values())
    if hits[0, 1, 2, 3] == max(hits.values()):
        assert found.tolist() == [0, 1, 2, 3], "a tie goes to the labels as they are"


@pytest.mark.parametrize(("classes", "n"), [(2, 64), (10, 64), (10, 2000), (100, 2000)])
def test_labels_in_another_order_are_found(classes: int, n: int) -> None:
    labels = draw(n, classes, 1)
    chosen = choose(labels, 0.9, classes, 2)
    shifted = (labels + 1) % classes
    found = fit_permutation(shifted, chosen)
    assert found is not None
    assert found.is_better
    assert found.given == (shifted == chosen).mean()
    assert found.permuted > 0.7
    straight = fit_permutation(labels, chosen)
    assert straight is not None
    assert not straight.is_better


def test_two_swapped_classes_are_found_among_ten() -> None:
    labels = draw(2000, 10, 3)
    chosen = choose(labels, 0.9, 10, 4)
    swapped = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8, 9])[labels]
    found = fit_permutation(swapped, chosen)
    assert found is not None
    assert found.is_better


@pytest.mark.parametrize("accuracy", [0.1, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize(("classes", "n"), [(2, 64), (10, 64), (10, 1000), (300, 64)])
def test_labels_in_order_never_trip(accuracy: float, classes: int, n: int) -> None:
    for seed in range(40):
        labels = draw(n, classes, seed)
        found = fit_permutation(
            labels, choose(labels, max(accuracy, 1 / classes), classes, ~seed & 0xFFFF)
        )
        assert found is not None
        assert not found.is_better


def test_labels_at_random_fit_no_permutation() -> None:
    """The share of p-values below one half is near one half at most: nothing is fitted twice."""
    below = 0
    for seed in range(100):
        found = fit_permutation(draw(200, 5, seed), draw(200, 5, seed + 1000))
        assert found is not None
        assert not found.is_better
        below += found.p_value < 0.05
    assert below <= 15  # 5 expected, deviation 2.2: four and a half deviations


def test_the_p_value_is_that_of_the_exact_test() -> None:
    # labels 0 and 1 swapped, all else right: both halves hold one image of each label twice
    labels, chosen = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 1, 0, 0, 2, 2])
    found = fit_permutation(labels, chosen)
    assert found is not None
    assert (found.given, found.permuted) == (2 / 6, 1.0)
    assert found.p_value == 0.5**4
    assert not found.is_better  # four images prove nothing
    same = fit_permutation(labels, labels)
    assert same is not None
    assert (same.given, same.permuted, same.p_value) == (1.0, 1.0, 1.0)


def test_too_many_classes_and_no_images_are_left_out() -> None:
    assert fit_permutation(np.arange(3000), np.arange(3000)) is None
    assert fit_permutation(np.zeros(0, int), np.zeros(0, int)) is None
    few = np.array([20_000, 7, 20_000, 7])  # large labels are no many classes
    assert fit_permutation(few, few) is not None


def test_the_classes_chosen_are_counted() -> None:
    teacher, student = np.array([0, 3, 3, 3]), np.array([1, 3, 3, 0])
    found = describe_classes(teacher, student, 5)
    assert (found.classes, found.chosen, found.permutation) == (5, 2, None)
    assert found.chance == 0.25 * 0.25 + 0.75 * 0.5
    assert describe_classes(teacher, student, 5, teacher).permutation is not None


def test_the_share_in_float_is_of_multiply_adds_and_without_names_of_products() -> None:
    costs = {"a": 900, "b": 50, "c": 50, "norm": 0}
    assert share_in_float(costs, {"a"}) == 0.9
    assert share_in_float(costs, ["b", "b", "other"]) == 0.05
    assert share_in_float(costs, ()) == 0.0
    assert share_in_float(costs, ["x", "y", "x"]) == pytest.approx(2 / 3)
    assert share_in_float(costs, list("vwxyz")) == 1.0
    assert share_in_float({}, {"a"}) is None
