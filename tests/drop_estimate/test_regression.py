"""From noise to drop: the regression, its interval, and how both do on networks left out."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from dfqonnx.evaluation.drop_estimate.calibration_set import (
    KnownStudent,
    read_known_students,
    read_students,
    write_students,
)
from dfqonnx.evaluation.drop_estimate.regression import (
    Basis,
    DropRegression,
    HeldOutPrediction,
    cross_validate,
    fit_regression,
    predict_held_out,
    predictors,
    shipped_predictions,
)

BASES: tuple[Basis, ...] = ("fixed", "real")


def student(network: str, ratio: float, certainty: float, drop: float) -> KnownStudent:
    return KnownStudent(
        network=network, student=f"{ratio}", classes=10, drop=drop, images=1000,
        certainty=certainty, fixed=ratio, real=ratio,
    )  # fmt: skip


def exact_students(a: float, b: float, c: float) -> list[KnownStudent]:
    """Students of four networks that follow the regression exactly."""
    found = []
    for number in range(4):
        certainty = 0.4 + 0.15 * number
        for ratio in (0.01, 0.05, 0.2, 1.0):
            x = math.exp(a) * ratio**b * certainty**c
            found.append(student(f"n{number}", ratio, certainty, 75 * (1 - math.exp(-x / 75))))
    return found


@pytest.mark.parametrize("basis", BASES)
def test_on_networks_left_out_the_promise_of_the_issue_holds(basis: Basis) -> None:
    found = cross_validate(shipped_predictions(basis))
    assert found.students >= 20
    assert found.networks >= 5
    assert found.rank_correlation >= 0.9
    assert found.coverage >= 0.85


@pytest.mark.parametrize("basis", BASES)
def test_the_coefficients_are_those_of_scipys_least_squares(basis: Basis) -> None:
    students = read_known_students()
    pairs = [predictors(known, basis) for known in students]
    rows = np.array([(1.0, math.log(max(ratio, 1e-5)), math.log(sure)) for ratio, sure in pairs])
    drops = np.arcsinh(np.array([known.drop for known in students]) / 0.5)

    def errors(coefficients: np.ndarray) -> np.ndarray:
        x = np.exp(rows @ coefficients)
        return np.arcsinh(75 * (1 - np.exp(-x / 75)) / 0.5) - drops

    reference = least_squares(errors, (4.0, 1.0, -1.0), xtol=1e-12, ftol=1e-12, gtol=1e-12).x
    # its derivatives are differences, good to half of double's digits
    assert fit_regression(students, basis).coefficients == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("basis", BASES)
def test_the_rank_correlation_is_spearmans(basis: Basis) -> None:
    found = shipped_predictions(basis)
    values = [each.value for each in found]
    reference = spearmanr(values, [each.student.drop for each in found]).statistic
    assert cross_validate(found).rank_correlation == pytest.approx(reference, rel=1e-12)


def test_students_that_follow_a_regression_give_it_back_with_next_to_no_width() -> None:
    regression = fit_regression(exact_students(3.0, 1.2, -1.5), "fixed")
    # least squares ends with errors of about 1e-8 on a scale of order one
    assert regression.coefficients == pytest.approx((3.0, 1.2, -1.5), abs=1e-4)
    assert regression.half_width < 1e-4


def test_the_reach_is_the_conformal_quantile_of_errors_on_networks_left_out() -> None:
    known = exact_students(3.0, 1.2, -1.5)
    known[5] = dataclasses.replace(known[5], drop=known[5].drop + 5)
    regression, place = fit_regression(known, "fixed"), math.ceil(0.9 * 17)  # of n = 16
    errors = []
    for network in ("n0", "n1", "n2", "n3"):
        rest = fit_regression([k for k in known if k.network != network], "fixed")
        for own in (k for k in known if k.network == network):
            value = rest.predict(own.fixed, own.certainty)[0]
            errors.append(abs(math.asinh(own.drop / 0.5) - math.asinh(value / 0.5)))
    assert regression.half_width == pytest.approx(sorted(errors)[place - 1], rel=1e-9)


def test_a_network_has_no_say_in_what_is_predicted_of_it() -> None:
    known = list(read_known_students())
    name = known[0].network
    other = [dataclasses.replace(k, drop=k.drop + 30) if k.network == name else k for k in known]
    values = [
        [t.value for t in predict_held_out(rows, "fixed") if t.student.network == name]
        for rows in (known, other)
    ]
    assert values[0] == values[1]


def test_the_interval_holds_the_value_and_widens_with_the_reach() -> None:
    near, far = (DropRegression((3.0, 1.2, -1.5), reach).predict(0.05, 0.6) for reach in (0.2, 0.8))
    assert far[1] < near[1] < near[0] < near[2] < far[2]
    # asinh and sinh undo each other: the middle is the regression's own value
    x = math.exp(3.0) * 0.05**1.2 * 0.6**-1.5
    assert near[0] == pytest.approx(75 * (1 - math.exp(-x / 75)), rel=1e-9)


def test_the_quantile_is_that_of_one_student_more() -> None:
    known = read_known_students()
    errors = []
    for network in {k.network for k in known}:
        rest = fit_regression([k for k in known if k.network != network], "real")
        for own in (k for k in known if k.network == network):
            value = rest.predict(own.real, own.certainty)[0]
            errors.append(abs(math.asinh(own.drop / 0.5) - math.asinh(value / 0.5)))
    place = math.ceil(0.9 * (len(errors) + 1))
    assert 19 < place < len(errors)
    found = fit_regression(known, "real")
    assert found.half_width == pytest.approx(sorted(errors)[place - 1], rel=1e-6)


def test_more_noise_never_means_a_smaller_drop() -> None:
    regression = fit_regression(read_known_students(), "fixed")
    values = [regression.predict(float(r), 0.6)[0] for r in np.geomspace(1e-4, 100, 50)]
    assert values == sorted(values)


def test_a_table_is_read_as_it_was_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_students(read_known_students(), tmp_path / "t.csv")
    assert read_students(tmp_path / "t.csv") == read_known_students()


def test_the_interval_ends_at_a_hundred_points_and_the_drop_at_what_there_is_to_lose() -> None:
    wide = DropRegression((3.0, 1.2, -1.5), 9.0)
    value, low, high = wide.predict(1e6, 0.6)
    assert (low, high) == (pytest.approx(math.sinh(math.asinh(150) - 9) / 2), 100.0)
    assert value == pytest.approx(75.0)
    tiny = DropRegression((3.0, 1.2, -1.5), 9.0).predict(1e-9, 0.6)
    assert tiny[1] == -100.0
    assert tiny == wide.predict(1e-5, 0.6), "no ratio below 1e-5 says more"


def test_a_prediction_covers_a_drop_on_either_end_of_its_interval() -> None:
    for drop, inside in ((0.9, False), (1.0, True), (1.5, True), (2.0, True), (2.1, False)):
        found = HeldOutPrediction(student("n", 0.1, 0.6, drop), 1.5, 1.0, 2.0)
        assert found.inside is inside


def test_the_summary_counts_students_networks_coverage_and_rank() -> None:
    drops = [(0.5, 0.4), (1.0, 1.2), (2.0, 0.1), (3.0, 4.0)]
    found = cross_validate(
        [
            HeldOutPrediction(student(f"n{k % 2}", 0.1, 0.6, drop), value, value - 0.3, value + 0.3)
            for k, (drop, value) in enumerate(drops)
        ]
    )
    assert (found.students, found.networks, found.coverage) == (4, 2, 0.5)
    # ranks 1 2 3 4 and 2 3 1 4: 1 - 6 (1 + 1 + 4 + 0) / (4 * 15)
    assert found.rank_correlation == pytest.approx(0.4)


def test_the_basis_chooses_the_ratio() -> None:
    known = dataclasses.replace(student("n", 0.1, 0.6, 1.0), real=0.3)
    assert predictors(known, "fixed") == (0.1, 0.6)
    assert predictors(known, "real") == (0.3, 0.6)


def test_few_errors_give_their_largest_as_half_width() -> None:
    known = exact_students(3.0, 1.2, -1.5)[::3]
    known[0] = dataclasses.replace(known[0], drop=known[0].drop + 3)
    found = fit_regression(known, "fixed")
    errors = []
    for network in ("n0", "n1", "n2", "n3"):
        rest = fit_regression([k for k in known if k.network != network], "fixed")
        for own in (k for k in known if k.network == network):
            value = rest.predict(own.fixed, own.certainty)[0]
            errors.append(abs(math.asinh(own.drop / 0.5) - math.asinh(value / 0.5)))
    assert len(errors) == 6  # ceil(0.9 * 7) would be the seventh
    assert found.half_width == pytest.approx(max(errors), rel=1e-9)
