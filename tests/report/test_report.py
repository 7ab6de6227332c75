"""The report: its schema, its verdict, its words."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from dfqonnx.evaluation import code_mismatches, parity
from dfqonnx.evaluation.agreement_estimate.estimate_agreement import AgreementEstimate
from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.statistics import Drop, Interval
from dfqonnx.graph.model import SkippedRewrite
from dfqonnx.report import report as m
from dfqonnx.report.sections import MismatchFacts
from dfqonnx.report.text import (
    describe_agreement_estimate,
    describe_missing_gates,
    format_markdown,
    format_table,
    headline,
    report_lines,
)
from dfqonnx.report.verdict import Effect
from dfqonnx.runtime.kernel_audit import Audit, FloatKernel
from dfqonnx.runtime.latency import Latency

FULL = m.Report(
    teacher=m.ModelFacts("net.onnx", "ab", 1000, Interval(91.7, 91.1, 92.2, 10_000)),
    student=m.ModelFacts("net.w4a4.onnx", "cd", 170, Interval(91.0, 90.4, 91.6, 10_000)),
    bits=m.BitFacts(weights=4, activations=4),
    drop=Drop(Interval(0.7, 0.4, 1.0, 10_000), 0.01, 90, 20),
    agreement=m.AgreementFacts(
        synthetic=Interval(0.97, 0.95, 0.99, 256),
        evaluation=Interval(0.95, 0.94, 0.96, 10_000),
        kl=0.02,
        sqnr_db=21.3,
    ),
    parity=m.ParityFacts(
        written_vs_trained=MismatchFacts(3e-5, 1),
        deployed_vs_written=MismatchFacts(2e-5, 1),
        same_class=0.999,
        images=256,
    ),
    audit=Audit(
        {"QLinearConv": 20}, {}, (FloatKernel("soft|max", "Softmax", "not | quantized"),), "cpu"
    ),
    latency=Latency(
        teacher_ms=2.0, student_ms=1.0, speedup=2.0, low=1.9, high=2.1, batch=1, threads=1
    ),
    seconds={"synthesize": 10.0, "total": 12.0},
    peak_memory_mib=900.0,
    recipe="default",
    seed=3,
    images=m.ImageFacts(
        source="optimized", count=1024, batchnorm="present", guided_by="BatchNorm statistics"
    ),
    gates=(
        m.Gate(rule="no Conv in float", value="1 is", holds=False),
        m.Gate(rule="agreement", value="?", holds=None, topic="accuracy"),
    ),
    warnings=("no --preprocess given",),
    files=("net.w4a4.onnx", "report.json"),
)
EFFECTS: tuple[tuple[str, Effect], ...] = (
    ("first", "warn"), ("second", "no pass"), ("third", "no judgment"),
)  # fmt: skip
EMPTY = m.Report(teacher=m.ModelFacts("a.onnx"), student=m.ModelFacts("b.onnx"))


def test_the_json_has_every_field_of_the_design_and_a_version() -> None:
    content = json.loads(FULL.to_json())
    assert content["schema"] == "dfqonnx.report/3"
    expected = {
        "verdict": (),
        "file_checks": {"status", "reasons"},
        "accuracy": {"status", "reasons"},
        "teacher": {"path", "sha256", "bytes", "top1"},
        "student": {"path", "sha256", "bytes", "top1"},
        "bits": {"weights", "activations", "first_last", "residual"},
        "drop": {"points", "p_value"},
        "agreement": {"synthetic", "evaluation"},
        "parity": {"written_vs_trained", "deployed_vs_written"},
        "audit": {"integer_nodes", "float_nodes"},
        "latency": {"teacher_ms", "student_ms", "speedup", "batch", "threads"},
        "seconds": {"total"},
    }
    for key, inner in expected.items():
        assert set(inner) <= set(content[key]), key
    assert {"peak_memory_mib", "recipe", "seed", "environment", "size_ratio"} <= set(content)
    assert content["audit"]["float_nodes"][0] == {
        "name": "soft|max", "op": "Softmax", "reason": "not | quantized",
    }  # fmt: skip


def test_what_is_unknown_is_null() -> None:
    content = json.loads(EMPTY.to_json())
    for key in ("bits", "drop", "audit", "latency", "peak_memory_mib", "recipe", "seed"):
        assert content[key] is None, key
    assert content["teacher"]["top1"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_hold_become_null(value: float) -> None:
    report = dataclasses.replace(EMPTY, peak_memory_mib=value)
    assert json.loads(report.to_json())["peak_memory_mib"] is None


FILE = {
    (): "inconclusive", (True, True): "pass", (True, None): "inconclusive", (None, False): "fail",
    ("warns", True): "warning", ("warns", None): "inconclusive", ("warns", False): "fail",
}  # fmt: skip
ACCURACY = {
    (): "not judged", (True, True): "pass", (True, None): "inconclusive", (None, False): "fail",
}  # fmt: skip
ORDER = ("pass", "warning", "not judged", "inconclusive", "fail")  # the worst is last


@pytest.mark.parametrize("accuracy", ACCURACY)
@pytest.mark.parametrize("file", FILE)
def test_two_statements_follow_from_the_gates_and_the_verdict_is_the_worst(
    file: tuple[Any, ...], accuracy: tuple[Any, ...]
) -> None:
    gates = [
        m.Gate(rule="a", value="", holds=h is True or (None if h is None else False),
               is_required=h != "warns")
        for h in file
    ]  # fmt: skip
    gates += [m.Gate(rule="b", value="", holds=h, topic="accuracy") for h in accuracy]
    report = dataclasses.replace(EMPTY, gates=tuple(gates))
    first, second = FILE[file], ACCURACY[accuracy]
    assert (report.file_checks.status, report.accuracy.status) == (first, second)
    assert report.verdict == ORDER[max(ORDER.index(first), ORDER.index(second))]
    assert report.exit_code == ("fail" in {first, second})
    strict = dataclasses.replace(report, strict=True)
    assert strict.exit_code == (report.verdict != "pass")
    assert f"; accuracy {'passes' if second == 'pass' else second[:4]}" in headline(report)


def test_without_a_rule_an_estimate_is_no_judgment_and_a_doubt_leaves_it_open() -> None:
    estimate = Estimate(value=0.7, low=0.3, high=1.4, basis="512 fixed images")
    check = m.Gate(rule="a", value="", holds=True)
    report = dataclasses.replace(EMPTY, estimated_drop=estimate, gates=(check,))
    assert str(report.accuracy) == "accuracy estimated, not judged (no rule)"
    assert report.verdict == "not judged"
    none = dataclasses.replace(report, estimated_drop=Estimate(reason="no output holds classes"))
    assert str(none.accuracy) == "accuracy not judged (no rule)"
    measured = dataclasses.replace(report, drop=FULL.drop)  # on labeled images
    assert str(measured.accuracy) == "accuracy measured, not judged (no rule)"
    assert measured.verdict == "not judged"
    found = [
        m.EvidenceWarning(name=name, found="found.", advice="do.", effect=effect)
        for name, effect in EFFECTS
    ]
    doubted = dataclasses.replace(report, evidence=tuple(found))
    assert str(doubted.accuracy) == "accuracy inconclusive (second; third)"
    assert doubted.verdict == "inconclusive"
    assert dataclasses.replace(report, evidence=(found[0],)).accuracy == report.accuracy


def test_the_headline_says_both_statements_drop_size_and_speed() -> None:
    assert headline(FULL) == (
        "file checks fail, not met (no Conv in float); accuracy inconclusive (agreement):"
        " W4A4, top-1 drop 0.70 points on 10,000 labeled images, 0.17 times the size,"
        " 2.0 times the speed"
    )
    assert headline(EMPTY) == (
        "file checks inconclusive (nothing was checked); accuracy not judged (no rule):"
        " nothing was measured"
    )


def test_unknown_things_get_no_line() -> None:
    assert list(report_lines(EMPTY)) == []
    assert dict(report_lines(FULL))["top-1 drop"] == "0.70 points (95 %: 0.40 to 1.00, n = 10,000)"
    assert dict(report_lines(FULL))["top-1 of the student"].startswith(
        "91.00 % (95 %: 90.40 to 91.60"
    )


def test_the_markdown_keeps_its_tables_whole_when_names_hold_bars() -> None:
    page = format_markdown(FULL)
    assert "| `soft\\|max` | Softmax | not \\| quantized |" in page
    assert "| no Conv in float | 1 is | FAILS |" in page
    assert "- no --preprocess given" in page


def test_the_table_prints_names_with_brackets_as_they_are() -> None:
    gate = m.Gate(rule="[red]rule[/red]", value="[bold]", holds=False)
    report = dataclasses.replace(EMPTY, gates=(gate,))
    out = io.StringIO()
    Console(file=out, width=100).print(format_table(report))
    assert "[red]rule[/red]: [bold]" in out.getvalue()


def test_parity_is_summed_up_over_the_quantizers() -> None:
    sites = (
        code_mismatches.QuantizerMismatches(quantizer="a", codes=100, differing=1, largest=1),
        code_mismatches.QuantizerMismatches(quantizer="b", codes=300, differing=3, largest=2),
    )
    found = parity.Parity(
        on_vs_off=code_mismatches.CodeMismatches(sites), off_vs_torch=None, top1_on_vs_off=0.99,
        top1_on_vs_torch=None, output_on_vs_off=0.0, images=8,
    )  # fmt: skip
    expected = m.ParityFacts(deployed_vs_written=MismatchFacts(0.01, 2), same_class=0.99, images=8)
    assert m.ParityFacts.of(found) == expected


def test_reports_need_no_torch_and_start_no_runtime() -> None:
    script = (
        "import sys, dfqonnx.report.text\nassert not {'torch', 'onnxruntime'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_without_a_rule_about_accuracy_the_report_says_that_it_was_not_judged() -> None:
    bare = dataclasses.replace(FULL, gates=FULL.gates[:1])
    assert "its accuracy was not judged" in describe_missing_gates(bare)
    assert "Without labels" not in describe_missing_gates(bare), "labels were given"
    estimate = Estimate(value=0.7, low=0.3, high=1.4, basis="512 fixed images")
    unlabeled = (dataclasses.replace(facts, top1=None) for facts in (bare.teacher, bare.student))
    teacher, student = unlabeled
    blind = dataclasses.replace(bare, drop=None, teacher=teacher, student=student)
    assert "only agreement is known" in describe_missing_gates(blind)
    seen = dataclasses.replace(blind, estimated_drop=estimate)
    assert "only agreement and an estimate of the drop are known" in describe_missing_gates(seen)
    assert "only agreement and an estimate of the drop are known" in format_markdown(seen)
    told = AgreementEstimate(value=0.96, low=0.9, high=0.985, basis="512 fixed images")
    both = describe_missing_gates(dataclasses.replace(seen, estimated_agreement=told))
    assert (
        "only agreement and estimates of the drop and of the agreement on real inputs are known"
        in both
    )
    assert "only the distance of the outputs is known" in describe_missing_gates(EMPTY)
    assert describe_missing_gates(FULL) == ""


def test_the_estimated_agreement_stands_in_headline_lines_and_verdict() -> None:
    told = AgreementEstimate(value=0.96, low=0.9, high=0.985, basis="512 fixed images")
    blind = dataclasses.replace(FULL, drop=None, gates=(), measures=(), estimated_agreement=told)
    assert blind.accuracy.status == "estimated"
    assert "agreement 90.0 to 98.5 % on real inputs (estimated)" in headline(blind)
    lines = dict(report_lines(blind))
    words = lines["agreement on real inputs, estimated"]
    assert words.startswith("96.0 % (90 %: 90.0 to 98.5 %), from 512 fixed images")
    for share, where in ((0.9, "inside"), (0.8999, "outside"), (0.986, "outside")):
        measured = Interval(share, share - 0.01, share + 0.01, 500)
        assert f"measured agreement lies {where}" in describe_agreement_estimate(told, measured)
    mute = dataclasses.replace(
        blind, estimated_agreement=AgreementEstimate(reason="no output holds classes")
    )
    assert mute.accuracy.status == "not judged"
    words = dict(report_lines(mute))["agreement on real inputs, estimated"]
    assert words == "cannot be estimated: no output holds classes"


def test_the_headline_tells_the_measured_drop_and_without_labels_the_interval() -> None:
    estimate = Estimate(value=0.7, low=0.3, high=1.4, basis="512 fixed images")
    both = dataclasses.replace(FULL, estimated_drop=estimate)
    assert "top-1 drop 0.70 points" in headline(both)
    assert "without labels" not in headline(both)
    blind = headline(dataclasses.replace(both, drop=None))
    assert "top-1 drop 0.3 to 1.4 points (estimated without labels)" in blind
    assert "(estimated without labels), agreement 95.0 % on 10,000 evaluation images" in blind


def test_what_could_not_be_simplified_has_its_own_section() -> None:
    skipped = SkippedRewrite("pad|0", "Pad", "fold_pads", "it pads with 1")
    report = dataclasses.replace(EMPTY, skipped_rewrites=(skipped,))
    assert "| `pad\\|0` | Pad, fold pads: it pads with 1 |" in format_markdown(report)
    assert "could not be simplified" not in format_markdown(EMPTY)
    assert json.loads(report.to_json())["skipped_rewrites"] == [dataclasses.asdict(skipped)]
