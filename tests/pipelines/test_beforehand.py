"""What is told beforehand against real inputs: the statistics of the page, worked out by hand."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.evaluation.agreement_estimate.known_agreements import TABLE, format_known_agreements
from dfqonnx.evaluation.drop_estimate.estimate import estimate_losses


@pytest.fixture
def page(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(root / "pipelines" / "benchmarks")
    return importlib.import_module("realdata.beforehand_page")


def student(page: Any, network: str, fixed: float, real: float, **more: float) -> Any:
    levels = {"signal": 0.0, "noise": -real, "SQNR": real}
    return page.Told(
        network=network, student=f"{fixed:g}", kind="images", tested=8,
        fixed={"SQNR": fixed, "PSNR": fixed, "signal": 0.0, "noise": -fixed},
        real={"PSNR": real} | levels | more,
    )  # fmt: skip


def test_ranks_are_spearmans(page: Any) -> None:
    pairs = [(1, 2), (2, 1), (3, 4), (4, 3), (5, 5)]
    found = page.correlate([student(page, "a", *pair) for pair in pairs], "PSNR", "PSNR")
    # 1 - 6 sum d^2 / (n (n^2 - 1)), four differences of one
    assert found == pytest.approx(1 - 6 * 4 / (5 * 24), rel=1e-12)


@pytest.mark.parametrize("pairs", [[(1, 1), (2, 2), (3, 3)], [(1, 1), (2, 1), (3, 1), (4, 1)]])
def test_too_few_students_or_equal_ones_have_no_rank_correlation(
    page: Any, pairs: list[tuple[float, float]]
) -> None:
    assert page.correlate([student(page, "a", *pair) for pair in pairs], "SQNR", "SQNR") is None


def test_a_network_off_the_line_of_the_others_is_over_stated_by_its_distance(page: Any) -> None:
    told = [
        student(page, name, x, x + 3 + e)
        for name, e in (("a", 0.5), ("b", -0.5), ("c", 0.5), ("d", -0.5))
        for x in (10.0, 20.0, 30.0)
    ]
    odd = [student(page, "odd", x, x - 20) for x in (10.0, 20.0)]
    found = {r.key: (low, high) for r, low, high in page.held_out([*told, *odd])}
    # the other four give real = 3 + fixed. Without "a" that line is 3 - 1/6 + fixed, off by 2/3
    low, high = found["odd", "10"]
    assert (low + high) / 2 == pytest.approx(13.0, abs=1e-9)
    assert (high - low) / 2 == pytest.approx(2 / 3, abs=1e-9)
    text = page.render([*told, *odd], {"net.onnx": "no sound at hand"})
    assert "- odd, 10: 12.3 to 13.7 dB told, -10.0 dB true: " in text
    assert "- net.onnx: no sound at hand" in text


def test_the_reason_is_in_the_levels_that_changed_for_the_worse(page: Any) -> None:
    louder = student(page, "a", 20, 10)
    assert page.explain(louder) == "real inputs drive what the fixed do not: error 10 dB stronger"
    quiet = replace(louder, real={"SQNR": 11.0, "signal": -9.0, "noise": -20.0})
    assert page.explain(quiet) == "the output varies 9 dB less on real inputs"


def test_records_come_back_as_they_were_and_the_last_of_a_student_stays(
    page: Any, tmp_path: Path
) -> None:
    records = importlib.import_module("realdata.told")
    first, second = student(page, "a", 1, 2), student(page, "a", 1, 3)
    records.write(tmp_path / "told.jsonl", [first, second])
    assert records.read(tmp_path / "told.jsonl") == [second]


def test_what_was_told_better_than_it_is_is_listed(page: Any) -> None:
    good, bad = student(page, "a", 30, 25), student(page, "a", 40, 20)
    assert list(page.over_stated(good)) == []
    assert list(page.over_stated(bad)) == ["PSNR 40 told, 20 true"]
    values = replace(bad, kind="values", fixed={"MAE": 0.1}, real={"MAE": 0.2})
    assert list(page.over_stated(values)) == ["MAE 0.1 told, 0.2 true"]
    classes = replace(good, kind="classes", estimate=1.0, low=0.5, high=2.0, lost={"top-1": 2.5})
    assert list(page.over_stated(classes)) == ["drop 1.00 (0.50 to 2.00) told, 2.50 true"]
    assert list(page.over_stated(replace(classes, lost={"top-1": 1.9}))) == []


def classifier(page: Any, network: str, noise: float, doubt: float, agreement: float) -> Any:
    """A student that is told of by what its network's outputs on the fixed images say."""
    levels = {"SQNR": -10 * math.log10(noise), "signal": 0.0, "noise": 10 * math.log10(noise)}
    fixed = {"ratio": noise, "doubt": doubt, "certainty": 1 - doubt, "classes": 10.0}
    return page.Told(
        network=network, student=f"{noise:g}", kind="classes", tested=10_000,
        fixed={"agreement": 50.0, "share": 0.5} | levels | fixed,
        real={"agreement": agreement} | levels,
    )  # fmt: skip


def classifiers(page: Any) -> list[Any]:
    """Students of five networks that follow the estimate's own formula."""
    records = []
    for k, network in enumerate("abcde"):
        doubt = 0.1 + 0.15 * k
        for noise in (0.01, 0.05, 0.2):
            x = math.exp(4.0) * math.sqrt(noise) * doubt
            lost = 0.9 * (1 - math.exp(-x / 90)) * 10_001 - 0.5  # of 10,000, see `_goals`
            records.append(classifier(page, network, noise, doubt, 100 - lost / 100))
    return records


def test_agreement_is_told_by_the_formula_with_its_own_network_left_out(page: Any) -> None:
    told_agreement = importlib.import_module("realdata.told_agreement")
    records = classifiers(page)
    found = told_agreement.tell_agreement(records)
    assert len(found) == 15
    for each in found:
        assert each.value == pytest.approx(each.student.agreement, abs=1e-4), "half an input"
    still = replace(
        records[0], network="still", fixed={"agreement": 100.0, "SQNR": 20.0, "classes": 10.0}
    )
    assert not told_agreement.can_be_told(still)
    assert len(told_agreement.tell_agreement([*records, still])) == 15
    assert told_agreement.tell_agreement(records[:9]) == (), "three networks"
    text = page.render([*records, still], {})
    assert "one class for all fixed images: still." in text
    assert "told agreement, real agreement | 1.00 |" in text


def test_the_form_is_chosen_without_the_network_that_is_told_of(page: Any) -> None:
    told_agreement = importlib.import_module("realdata.told_agreement")
    records = classifiers(page)
    found = told_agreement.tell_nested(records)
    assert {str(each.form) for each in found} <= {
        "ratio and doubt", "ratio (to the power of 0.5) and doubt (to the power of 1)"
    }, "forms that hold what they follow"  # fmt: skip
    for each in found:
        assert each.value == pytest.approx(each.record.real["agreement"] / 100, abs=1e-4)
    # what is true of a network changes nothing that is told of it, form or number
    other = [
        replace(r, real=r.real | {"agreement": 50.0}) if r.network == "c" else r for r in records
    ]
    again = [each for each in told_agreement.tell_nested(other) if each.record.network == "c"]
    first = [each for each in found if each.record.network == "c"]
    assert [(e.form, e.value) for e in again] == [(e.form, e.value) for e in first]


def test_the_error_of_a_form_is_a_mean_over_networks_left_out(page: Any) -> None:
    told_agreement = importlib.import_module("realdata.told_agreement")
    records, form = classifiers(page), told_agreement.Form
    assert told_agreement.form_error(records, form(("ratio", "doubt"))) == pytest.approx(
        0, abs=1e-12
    )
    assert told_agreement.form_error(records, form(("ratio",))) > 0.01


def test_what_agreement_is_told_from(page: Any, root: Path, tmp_path: Path) -> None:
    told_agreement = importlib.import_module("realdata.told_agreement")
    model = root / "models" / "resnet20.onnx"
    inputs = InputFormat(PRESETS["cifar10"], (3, 32, 32))
    found = told_agreement.class_levels(model, model, inputs)
    told = estimate_losses(model, model, inputs=inputs)
    assert (found["ratio"], found["doubt"]) == (told.agreement.noise, told.agreement.doubt)
    assert found["certainty"] == told.drop.certainty
    assert (found["share"], found["classes"]) == (0.0, 10.0)


def test_the_shipped_table_is_that_of_the_stored_records(page: Any, root: Path) -> None:
    told_agreement = importlib.import_module("realdata.told_agreement")
    records = importlib.import_module("realdata.told")
    stored = records.read(root / "pipelines" / "results" / "beforehand.jsonl")
    table = format_known_agreements(told_agreement.to_known(stored))
    assert table == TABLE.read_text(encoding="utf-8")
