"""From noise to agreement: the regression, its interval, and how both do on networks left out."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from dfqonnx.evaluation.agreement_estimate import known_agreements
from dfqonnx.evaluation.agreement_estimate.agreement_regression import (
    AgreementRegression,
    HeldOutAgreement,
    cross_validate_agreement,
    fit_agreement,
    predict_agreements,
    shipped_agreements,
)
from dfqonnx.evaluation.agreement_estimate.known_agreements import (
    KnownAgreement,
    format_known_agreements,
    read_known_agreements,
)


def student(network: str, noise: float, doubt: float, agreement: float) -> KnownAgreement:
    return KnownAgreement(
        network=network, student=f"{noise}", classes=10, images=1000, agreement=agreement,
        noise=noise, doubt=doubt,
    )  # fmt: skip


def exact_students(level: float) -> list[KnownAgreement]:
    """Students of four networks that follow the regression exactly."""
    found = []
    for number in range(4):
        doubt = 0.1 + 0.2 * number
        for noise in (0.01, 0.05, 0.2, 1.0):
            x = math.exp(level) * math.sqrt(noise) * doubt
            lost = 0.9 * (1 - math.exp(-x / 90))  # nine of ten classes to lose
            missed = lost * 1001 - 0.5  # half an input counts as missed beside those of 1,000
            found.append(student(f"n{number}", noise, doubt, 1 - missed / 1000))
    return found


def test_on_networks_left_out_the_agreement_is_told() -> None:
    found = cross_validate_agreement(shipped_agreements())
    assert found.networks >= 9
    assert found.students >= 60
    assert found.rank_correlation >= 0.85
    assert found.coverage >= 0.85


def test_the_level_is_that_of_scipys_least_squares() -> None:
    students = read_known_agreements()
    expected = np.array([math.sqrt(s.noise) * s.doubt for s in students])
    most = np.array([100 * (1 - 1 / s.classes) for s in students])
    missed = np.array([(s.images * (1 - s.agreement) + 0.5) / (s.images + 1) for s in students])

    def errors(level: np.ndarray) -> np.ndarray:
        x = np.exp(level) * expected
        return np.arcsinh(most * (1 - np.exp(-x / most)) / 0.5) - np.arcsinh(100 * missed / 0.5)

    reference = least_squares(errors, 4.0, xtol=1e-12, ftol=1e-12, gtol=1e-12).x[0]
    # its derivatives are differences, good to half of double's digits
    assert fit_agreement(students).level == pytest.approx(reference, rel=1e-6)


def test_students_that_follow_a_regression_give_it_back_with_next_to_no_width() -> None:
    found = fit_agreement(exact_students(3.5))
    # least squares ends with errors of about 1e-8 on a scale of order one
    assert found.level == pytest.approx(3.5, abs=1e-6)
    assert found.half_width < 1e-6


def test_the_half_width_is_the_conformal_quantile_of_errors_on_networks_left_out() -> None:
    known = exact_students(3.5)
    known[5] = dataclasses.replace(known[5], agreement=known[5].agreement - 0.05)
    found, place = fit_agreement(known), math.ceil(0.9 * 17)  # of n = 16
    errors = []
    for network in ("n0", "n1", "n2", "n3"):
        rest = fit_agreement([k for k in known if k.network != network])
        for own in (k for k in known if k.network == network):
            value = rest.predict(own.noise, own.doubt, 10)[0]
            true = (1000 * (1 - own.agreement) + 0.5) / 1001
            errors.append(abs(math.asinh(200 * true) - math.asinh(200 * (1 - value))))
    assert found.half_width == pytest.approx(sorted(errors)[place - 1], rel=1e-9)


def test_a_network_has_no_say_in_what_is_told_of_it() -> None:
    known = list(read_known_agreements())
    name = known[0].network
    other = [dataclasses.replace(k, agreement=0.5) if k.network == name else k for k in known]
    values = [
        [t.value for t in predict_agreements(rows) if t.student.network == name]
        for rows in (known, other)
    ]
    assert values[0] == values[1]


def test_the_interval_holds_the_value_and_ends_at_all() -> None:
    near, far = (AgreementRegression(3.5, reach).predict(0.05, 0.3, 10) for reach in (0.2, 9.0))
    assert near[1] < near[0] < near[2] < 1
    x = math.exp(3.5) * math.sqrt(0.05) * 0.3
    assert near[0] == pytest.approx(1 - 0.9 * (1 - math.exp(-x / 90)), rel=1e-9)
    assert far == (near[0], 0.0, 1.0), "no share leaves 0..1"


def test_two_classes_have_half_to_lose_and_a_thousand_nearly_all() -> None:
    regression = AgreementRegression(3.5, 0.1)
    for classes in (2, 1000):
        assert regression.predict(1e6, 0.3, classes)[0] == pytest.approx(1 / classes)


def test_more_noise_or_doubt_never_means_more_agreement() -> None:
    regression = fit_agreement(read_known_agreements())
    by_noise = [regression.predict(float(n), 0.3, 10)[0] for n in np.geomspace(1e-4, 100, 50)]
    by_doubt = [regression.predict(0.1, float(d), 10)[0] for d in np.linspace(0.01, 0.9, 50)]
    assert by_noise == sorted(by_noise, reverse=True)
    assert by_doubt == sorted(by_doubt, reverse=True)


def test_the_summary_counts_students_networks_coverage_and_rank() -> None:
    shares = [(0.9, 0.91), (0.8, 0.7), (0.99, 0.98), (0.5, 0.75)]
    found = cross_validate_agreement(
        [
            HeldOutAgreement(student(f"n{k % 2}", 0.1, 0.6, true), told, told - 0.05, told + 0.05)
            for k, (true, told) in enumerate(shares)
        ]
    )
    assert (found.students, found.networks, found.coverage) == (4, 2, 0.5)
    truths, values = zip(*shares, strict=True)
    assert found.rank_correlation == pytest.approx(spearmanr(truths, values).statistic)


def test_a_table_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [student("of 2, classes", 0.123456, 0.5, 0.75), student("b", 1e-5, 0.25, 1.0)]
    table = tmp_path / "t.csv"
    table.write_text(format_known_agreements(known))
    monkeypatch.setattr(known_agreements, "TABLE", table)
    read_known_agreements.cache_clear()
    assert list(read_known_agreements()) == known
    read_known_agreements.cache_clear()


def test_the_page_tells_the_figures_of_the_stored_students(root: Path) -> None:
    page = (root / "docs" / "estimate.md").read_text(encoding="utf-8")
    found = cross_validate_agreement(shipped_agreements())
    words = f"{found.students} students of {found.networks} networks"
    assert f"{words}: rank correlation {found.rank_correlation:.2f}" in page
    assert f"{found.coverage:.0%}".replace("%", " %") + " inside the 90 % interval" in page
    for network in {known.network for known in read_known_agreements()}:
        own = [t for t in shipped_agreements() if t.student.network == network]
        true = [100 * t.student.agreement for t in own]
        inside = sum(t.inside for t in own)
        row = f"| {network} | {len(own)} | {min(true):.1f} to {max(true):.1f} | {inside} |"
        assert row in page, row
