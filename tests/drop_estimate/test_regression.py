"""From noise to drop: the regression, its interval, and how both do on networks left out."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from dfqonnx.evaluation.drop_estimate.calibration_set import (
    KnownStudent,
    read_known_students,
    read_students,
    write_students,
)
from dfqonnx.evaluation.drop_estimate.regression import (
    Basis,
    DropRegression,
    cross_validate,
    fit_regression,
    predict_held_out,
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


def test_more_noise_never_means_a_smaller_drop() -> None:
    regression = fit_regression(read_known_students(), "fixed")
    values = [regression.predict(float(r), 0.6)[0] for r in np.geomspace(1e-4, 100, 50)]
    assert values == sorted(values)


def test_a_table_is_read_as_it_was_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    write_students(read_known_students(), tmp_path / "t.csv")
    assert read_students(tmp_path / "t.csv") == read_known_students()
