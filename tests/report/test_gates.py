"""The user's rules: how they are read, and when they pass, fail or stay open.

Intervals by hand, z = 1.959964, z^2 = 3.841459.
Wilson for k of n, p = k / n: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    970 of 1000: (0.97 + 0.0019207 -+ 1.959964 sqrt(0.0000291 + 0.00000096036)) / 1.0038415
                 = (0.9719207 -+ 0.0107459) / 1.0038415 = 0.957497 .. 0.978906
Drop, 90 and 20 of 10,000: p - q = 70 / 10002 = 0.0069986,
    -+ 1.959964 sqrt((111 + 1 - 0.48990) / 10002^2) = -+ 0.0020693: 0.49293 .. 0.90679 points
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqonnx.config.gates import METRICS, GateRule, parse_gate, parse_gates
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.agreement_estimate.estimate_agreement import AgreementEstimate
from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.outputs import OutputDistance
from dfqonnx.evaluation.statistics import Interval, paired_drop, wilson_interval
from dfqonnx.report import report as m
from dfqonnx.report.build import NOT_SLOWER, SMALLER
from dfqonnx.report.gate_verdicts import (
    NO_LABELS,
    Z,
    apply_gates,
    images_for_drop,
    images_for_share,
    judge_gate,
)
from dfqonnx.report.verdict import Effect, Scope
from dfqonnx.runtime.kernel_audit import Audit, FloatKernel
from dfqonnx.runtime.latency import Latency

TOP1 = wilson_interval(9100, 10_000)
FULL = m.Report(
    teacher=m.ModelFacts("net.onnx", "ab", 1000),
    student=m.ModelFacts(
        "net.w4a4.onnx",
        "cd",
        170,
        Interval(100 * TOP1.value, 100 * TOP1.low, 100 * TOP1.high, 10_000),
    ),
    drop=paired_drop(90, 20, 10_000),
    agreement=m.AgreementFacts(
        synthetic=wilson_interval(200, 256), evaluation=wilson_interval(970, 1000)
    ),
    audit=Audit({"QLinearConv": 20}, {}, (FloatKernel("soft", "Softmax", "why"),), "cpu"),
    latency=Latency(
        teacher_ms=2.0,
        student_ms=1.0,
        speedup=2.0,
        low=1.9,
        high=2.1,
        batch=1,
        threads=1,
        turns=400,
    ),
    gates=(m.Gate(rule="a check", value="passed", holds=True),),
)
ESTIMATE = Estimate(value=0.7, low=0.3, high=1.4, basis="512 fixed images", images=512)
DECIBELS = m.AgreementFacts(
    outputs=(OutputDistance(name="y", sqnr_db=25.0),), images=64, image_set="synthetic"
)
EMPTY = m.Report(teacher=m.ModelFacts("a.onnx"), student=m.ModelFacts("b.onnx"))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("drop<=1.0", GateRule("drop<=1.0", "drop", "<=", 1.0)),
        ("drop < 1pp", GateRule("drop<1pp", "drop", "<", 1.0)),
        ("drop<=-0.5 points", GateRule("drop<=-0.5points", "drop", "<=", -0.5)),
        ("agreement>=0.97", GateRule("agreement>=0.97", "agreement", ">=", 0.97)),
        (" agreement >= 97 % ", GateRule("agreement>=97%", "agreement", ">=", 0.97)),
        ("top1>=91%", GateRule("top1>=91%", "top1", ">=", 91.0)),
        ("size<=0.2x", GateRule("size<=0.2x", "size", "<=", 0.2)),
        ("size<=20%", GateRule("size<=20%", "size", "<=", 0.2)),
        ("size<=160KiB", GateRule("size<=160KiB", "bytes", "<=", 163_840.0)),
        ("speedup>=1.8x", GateRule("speedup>=1.8x", "speedup", ">=", 1.8)),
        ("speedup>2", GateRule("speedup>2", "speedup", ">", 2.0)),
        ("float_nodes==0", GateRule("float_nodes==0", "float_nodes", "==", 0.0)),
    ],
)
def test_rules_are_read_with_units_and_blanks(text: str, rule: GateRule) -> None:
    assert parse_gate(text) == rule
    assert parse_gate(rule.text) == rule  # what is reported can be given again


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("drp<=1.0", 0, "did you mean 'drop'?"),
        ("  agreemnt>=0.97", 2, "did you mean 'agreement'?"),
        ("", 0, "is empty"),
        ("<=1", 0, "begins with a metric"),
        ("drop", 4, "the shell interprets < and >"),
        ("drop 1.0", 4, "an operator is missing"),
        ("drop=<1", 4, "did you mean '<='?"),
        ("drop=1", 4, "did you mean '=='?"),
        ("drop==1", 4, "measured with an interval"),
        ("drop<=", 6, "a number is missing"),
        ("drop<= big", 7, "a number is missing"),
        ("drop<=1,5", 6, "with a decimal point"),
        ("drop<=1%", 7, "given in points"),
        ("drop<=1 ponts", 8, "takes points, pp or none"),
        ("agreement>=97", 11, "0.97 or 97%"),
        ("size<=0.2", 9, "needs a unit"),
        ("size<=20kib", 8, "did you mean 'KiB'?"),
        ("speedup>=-1", 9, "never negative"),
        ("float_nodes==0.5", 13, "whole number"),
        ("float_nodes==1e999", 13, "is not a number"),
        ("float_nodes==0x", 14, "has no unit"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, column: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_gate(text)
    _, line, mark, _ = str(caught.value).splitlines()
    assert line == f"  {text}"
    assert mark.index("^") - 2 == column
    assert words in str(caught.value)


def test_an_unknown_metric_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match=", ".join(METRICS)):
        parse_gate("accuracy>=0.9")


@given(st.text(alphabet="drop<=1. x%agemnt>_sizufl!eK\n\t", max_size=24))
def test_any_text_is_a_rule_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert math.isfinite(parse_gate(text).bound)


def test_several_rules_keep_their_order_and_read_ones_stay() -> None:
    first = parse_gate("drop<=1")
    assert parse_gates([first, "size<=1x"]) == (first, parse_gate("size<=1x"))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("drop<=1.0", True),  # 0.493 .. 0.907
        ("drop<=0.91", True),
        ("drop<=0.90", None),
        ("drop<=0.50", None),
        ("drop<=0.49", False),
        ("drop>=0.49", True),
        ("agreement>=0.957", True),  # 0.9575 .. 0.9789
        ("agreement>=0.958", None),
        ("agreement>=0.978", None),
        ("agreement>=0.979", False),
        ("agreement<0.979", True),
        ("top1>=90", True),  # 90.42 .. 91.55
        ("top1>=91", None),
        ("top1>=92", False),
        ("speedup>=1.9", True),  # 1.9 .. 2.1
        ("speedup>1.9", None),
        ("speedup>=2.0x", None),
        ("speedup>=2.2x", False),
        ("size<=0.17x", True),  # exact
        ("size<0.17x", False),
        ("size<=170B", True),
        ("size<=0.16KiB", False),  # 163.84 bytes
        ("size<=0.17KiB", True),  # 174.08 bytes
        ("float_nodes==1", True),
        ("float_nodes==0", False),
        ("float_nodes!=0", True),
        ("float_nodes<=0", False),
    ],
)
def test_a_rule_passes_fails_or_stays_open_by_its_interval(text: str, holds: bool | None) -> None:
    gate = judge_gate(parse_gate(text), FULL)
    assert gate.holds is holds
    assert gate.origin == "user"
    assert gate.measured is not None
    assert gate.measured.low <= gate.measured.value <= gate.measured.high


def test_the_intervals_are_those_computed_by_hand() -> None:
    drop = judge_gate(parse_gate("drop<=1"), FULL).measured
    agreed = judge_gate(parse_gate("agreement>=0.9"), FULL).measured
    assert drop is not None
    assert agreed is not None
    # the figures in the docstring have five digits
    assert (drop.low, drop.high) == (
        pytest.approx(0.49293, abs=2e-5),
        pytest.approx(0.90679, abs=2e-5),
    )
    assert (agreed.low, agreed.high) == (
        pytest.approx(0.957497, abs=2e-6),
        pytest.approx(0.978906, abs=2e-6),
    )
    assert (drop.n, agreed.n) == (10_000, 1000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("drop<=1", NO_LABELS),
        ("top1>=90", NO_LABELS),
        ("agreement>=0.9", "agreement was not measured"),
        ("speedup>=1", "not measured"),
        ("size<=1x", "not known"),
        ("size<=1MB", "not known"),
        ("float_nodes==0", "could not be asked"),
    ],
)
def test_what_was_not_measured_leaves_the_rule_open_with_the_reason(text: str, words: str) -> None:
    gate = judge_gate(parse_gate(text), EMPTY)
    assert gate.holds is None
    assert gate.measured is None
    assert words in gate.value


def test_agreement_is_taken_from_evaluation_images_where_there_are_some() -> None:
    rule = parse_gate("agreement>=0.9")
    blind = dataclasses.replace(
        FULL, agreement=m.AgreementFacts(synthetic=wilson_interval(200, 256))
    )
    assert "n = 1,000 evaluation images" in judge_gate(rule, FULL).value
    assert "n = 256 synthetic images" in judge_gate(rule, blind).value


def test_an_open_rule_says_how_many_images_would_decide() -> None:
    gate = judge_gate(parse_gate("agreement>=0.96"), FULL)
    # n > z^2 b (1 - b) / (p - b)^2 = 3.841459 * 0.96 * 0.04 / 0.01^2 = 1475.1
    assert gate.measured is not None
    assert gate.measured.images_needed == 1476
    assert gate.value.endswith(
        "n = 1,000 does not decide; about 1,476 images would, if the shares stay as measured"
    )


def test_an_estimate_on_the_bound_is_never_decided() -> None:
    for text in ("agreement>=0.97", "drop<=0.7"):
        gate = judge_gate(parse_gate(text), FULL)
        assert gate.measured is not None
        assert gate.measured.images_needed is None
        assert "no number of images would decide" in gate.value


def test_speed_between_the_quartiles_asks_for_a_quieter_machine() -> None:
    gate = judge_gate(parse_gate("speedup>=2"), FULL)
    assert "n = 400 turns" in gate.value
    assert "quieter machine" in gate.value


@pytest.mark.parametrize("bound", [0.95, 0.96, 0.98, 0.985])
def test_the_number_of_images_is_the_least_that_clears_a_share(bound: float) -> None:
    needed = images_for_share(0.97, bound, 1)
    assert needed is not None

    def clear(n: int) -> bool:  # Wilson's interval, written out
        z2, p = 1.959963984540054**2, 0.97
        middle = p + z2 / (2 * n)
        reach = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
        return abs(middle - bound * (1 + z2 / n)) > reach

    assert clear(needed)
    assert not clear(needed - 1)


@pytest.mark.parametrize("bound", [0.5, 0.6, 0.8, 0.9])
def test_the_number_of_images_is_the_least_that_clears_a_drop(bound: float) -> None:
    needed = images_for_drop(paired_drop(90, 20, 10_000), bound)
    assert needed is not None

    def clear(n: int) -> bool:  # Bonett and Price's interval, written out for shares that stay
        b, c = 0.009 * n + 1, 0.002 * n + 1
        reach = 1.959963984540054 * math.sqrt(b + c - (b - c) ** 2 / (n + 2))
        return abs(b - c - bound / 100 * (n + 2)) > reach

    assert clear(needed)
    assert not clear(needed - 1)


def test_a_drop_far_from_its_bound_needs_few_more_images() -> None:
    few = paired_drop(2, 1, 100)
    needed = images_for_drop(few, 5.0)
    assert needed is not None
    assert 100 < needed < 1000


def test_coverage_of_a_passing_rule_is_as_promised() -> None:
    """A student that agrees on 95 % exactly may pass `agreement>0.95` in 2.5 % of cases at most."""
    rng = random.Random(0)
    rule = parse_gate("agreement>0.95")
    passed = 0
    for _ in range(2000):
        hits = sum(rng.random() < 0.95 for _ in range(200))
        report = dataclasses.replace(
            FULL, agreement=m.AgreementFacts(evaluation=wilson_interval(hits, 200))
        )
        passed += judge_gate(rule, report).holds is True
    # 2000 * 0.025 = 50, deviation 7; Wilson near 1 is discrete and a little off: four deviations
    assert passed <= 50 + 4 * 7


def test_rules_come_after_built_in_checks_and_decide_the_verdict() -> None:
    rules = parse_gates(["size<=0.2x", "agreement>=0.97"])
    found = apply_gates(FULL, rules)
    assert [gate.rule for gate in found.gates] == ["a check", "size<=0.2x", "agreement>=0.97"]
    assert (found.verdict, found.exit_code) == ("inconclusive", 0)
    assert (found.file_checks.status, found.accuracy.status) == ("pass", "inconclusive")
    assert found.failed_gates == ()
    failing = apply_gates(FULL, parse_gates(["size<=0.1x", "agreement>=0.97"]))
    assert (failing.verdict, failing.exit_code) == ("fail", 1)
    assert [gate.rule for gate in failing.failed_gates] == ["size<=0.1x"]


def test_strict_turns_an_open_rule_into_exit_code_1_and_keeps_its_verdict() -> None:
    found = apply_gates(FULL, parse_gates(["agreement>=0.97"]), strict=True)
    assert (found.verdict, found.exit_code) == ("inconclusive", 1)
    assert [gate.rule for gate in found.failed_gates] == ["agreement>=0.97"]


@pytest.mark.parametrize(
    ("known", "rule", "holds"),
    [
        ({}, "drop<=1", True),  # 0.493 .. 0.907
        ({"drop": None}, "estimated_drop<=2", True),
        ({"drop": None, "estimated_drop": None}, "agreement>=0.97", None),
        ({"drop": None, "estimated_drop": None, "agreement": DECIBELS}, "sqnr>=20", True),
        (
            {"drop": None, "estimated_drop": None, "agreement": m.AgreementFacts()},
            "sqnr>=20",
            None,
        ),
    ],
)
def test_strict_adds_a_rule_about_the_best_evidence_there_is(
    known: dict[str, Any], rule: str, holds: bool | None
) -> None:
    report = dataclasses.replace(FULL, **({"estimated_drop": ESTIMATE} | known))
    found = apply_gates(report, (), strict=True)
    (added,) = [gate for gate in found.gates if gate.origin == "strict"]
    assert (added.rule, added.holds, added.topic) == (rule, holds, "accuracy")
    assert found.exit_code == (0 if holds else 1)
    assert found.verdict == ("pass" if holds else "inconclusive")
    given = apply_gates(report, parse_gates(["top1>=50"]), strict=True)
    assert [gate.rule for gate in given.gates if gate.topic == "accuracy"] == ["top1>=50"]


@pytest.mark.parametrize(
    ("check", "rules"), [(SMALLER, ["size<=2x", "size<=1MB"]), (NOT_SLOWER, ["speedup>=0.5"])]
)
def test_a_check_that_warns_fails_with_strict_and_gives_way_to_the_users_own_rule(
    check: str, rules: list[str]
) -> None:
    gate = m.Gate(rule=check, value="1.4", holds=False, is_required=False)
    report = dataclasses.replace(FULL, gates=(*FULL.gates, gate))
    free = apply_gates(report, parse_gates(["drop<=1"]))
    assert (free.verdict, free.exit_code) == ("warning", 0)
    assert free.file_checks.reasons == (check,)
    strict = apply_gates(report, parse_gates(["drop<=1"]), strict=True)
    assert (strict.verdict, strict.exit_code) == ("fail", 1)
    for rule in rules:
        own = apply_gates(report, parse_gates(["drop<=1", rule]), strict=True)
        assert (own.verdict, own.exit_code) == ("pass", 0)
        assert check not in [gate.rule for gate in own.gates]


@pytest.mark.parametrize(
    ("scope", "inconclusive"),
    [
        ("labels", {"drop<=1", "top1>=90"}),
        ("inputs", {"drop<=1", "top1>=90", "agreement>=0.9", "sqnr>=20"}),
        (
            "everything",
            {"drop<=1", "top1>=90", "agreement>=0.9", "sqnr>=20", "estimated_drop<=2"},
        ),
    ],
)
def test_a_doubt_leaves_the_rules_in_its_scope_open(scope: Scope, inconclusive: set[str]) -> None:
    rules = parse_gates(
        ["drop<=1", "top1>=90", "agreement>=0.9", "sqnr>=20", "estimated_drop<=2", "size<=1x"]
    )
    agreement = dataclasses.replace(FULL.agreement, outputs=DECIBELS.outputs, images=1000)
    report = dataclasses.replace(FULL, agreement=agreement, estimated_drop=ESTIMATE)
    assert {gate.holds for gate in apply_gates(report, rules).gates} == {True}
    doubt = m.EvidenceWarning(
        name="a-doubt", found="", advice="", effect="no judgment", scope=scope
    )
    found = apply_gates(dataclasses.replace(report, evidence=(doubt,)), rules)
    assert {gate.rule for gate in found.gates if gate.holds is None} == inconclusive
    for gate in found.gates:
        assert gate.doubts == (("a-doubt",) if gate.rule in inconclusive else ())
        assert ("a-doubt" in gate.value) is (gate.rule in inconclusive)
    assert found.accuracy.status == "inconclusive"
    assert found.accuracy.reasons == tuple(
        f"{rule.text}: a-doubt" for rule in rules if rule.text in inconclusive
    )


def test_a_doubt_about_passing_leaves_a_failing_rule_failed() -> None:
    effects: tuple[Effect, ...] = ("warn", "no pass", "no judgment")
    doubts = [
        m.EvidenceWarning(name=effect, found="", advice="", effect=effect) for effect in effects
    ]
    for doubt, expected in zip(doubts, ((True, False), (None, False), (None, None)), strict=True):
        report = dataclasses.replace(FULL, evidence=(doubt,))
        judged = [judge_gate(parse_gate(text), report) for text in ("top1>=90", "top1>=92")]
        assert tuple(gate.holds for gate in judged) == expected


OUTPUTS = (
    OutputDistance(name="a", sqnr_db=30.0),
    OutputDistance(name="b", sqnr_db=12.5),
    OutputDistance(name="c"),
)


@pytest.mark.parametrize(
    ("text", "holds", "value", "name"),
    [
        ("sqnr>=12.5", True, 12.5, "b"),
        ("sqnr>=12.6", False, 12.5, "b"),
    ],
)
def test_the_worst_output_decides(text: str, holds: bool, value: float, name: str) -> None:
    agreement = m.AgreementFacts(outputs=OUTPUTS, images=64, image_set="synthetic")
    for outputs in (OUTPUTS, OUTPUTS[::-1]):
        report = dataclasses.replace(
            FULL, agreement=dataclasses.replace(agreement, outputs=outputs)
        )
        gate = judge_gate(parse_gate(text), report)
        assert gate.holds is holds
        assert gate.measured is not None
        assert (gate.measured.value, gate.measured.n) == (value, 64)
        assert f"on output {name}, n = 64 synthetic inputs" in gate.value


@pytest.mark.parametrize(
    ("text", "holds"), [("sqnr>=11", True), ("sqnr>=12", None), ("sqnr>=14", False)]
)
def test_the_interval_of_the_ratio_decides(text: str, holds: bool | None) -> None:
    worst = OutputDistance(name="b", sqnr_db=12.5, sqnr_interval=Interval(12.5, 11.0, 13.0, 64))
    other = OutputDistance(name="a", sqnr_db=30.0, sqnr_interval=Interval(30.0, 10.0, 31.0, 64))
    agreement = m.AgreementFacts(outputs=(other, worst), images=64, image_set="synthetic")
    gate = judge_gate(parse_gate(text), dataclasses.replace(FULL, agreement=agreement))
    assert gate.holds is holds
    assert gate.measured is not None
    assert (gate.measured.low, gate.measured.high, gate.measured.n) == (11.0, 13.0, 64)
    assert "12.50 dB on output b (95 %: 11.00 to 13.00), n = 64" in gate.value
    # 64 (1.5 / 0.5)^2 = 576
    assert gate.measured.images_needed == (577 if holds is None else None)
    assert ("577 images would, if the numbers stay" in gate.value) is (holds is None)


def test_outputs_that_are_all_equal_are_infinitely_good_and_one_alone_is_not() -> None:
    exact, unknown = OutputDistance(name="a", exact=True), OutputDistance(name="b")
    for outputs, holds in (((exact,), True), ((exact, unknown), None), ((), None)):
        agreement = m.AgreementFacts(outputs=outputs, images=8, image_set="synthetic")
        report = dataclasses.replace(FULL, agreement=agreement)
        assert judge_gate(parse_gate("sqnr>=1000"), report).holds is holds
        assert judge_gate(parse_gate("iou>=0.1"), report).holds is None


@pytest.mark.parametrize(
    ("text", "holds"),
    [("estimated_drop<=1.4", True), ("estimated_drop<=1.39", None), ("estimated_drop<0.3", False),
     ("estimated_drop<=0.3", None)],
)  # fmt: skip
def test_the_whole_interval_of_an_estimate_decides(text: str, holds: bool | None) -> None:
    gate = judge_gate(parse_gate(text), dataclasses.replace(FULL, estimated_drop=ESTIMATE))
    assert gate.holds is holds
    assert gate.measured is not None
    assert (gate.measured.low, gate.measured.high, gate.measured.n) == (0.3, 1.4, 512)
    assert ("labeled images would decide" in gate.value) is (holds is None)
    for part in ("value", "low", "high"):
        half = dataclasses.replace(ESTIMATE, **{part: None}, reason="no classes")
        report = dataclasses.replace(FULL, estimated_drop=half)
        if part == "value":
            assert "no classes" in judge_gate(parse_gate(text), report).value
            assert judge_gate(parse_gate(text), report).holds is None


@pytest.mark.parametrize(
    ("text", "holds"),
    [("estimated_agreement>=0.9", True), ("estimated_agreement>=91%", None),
     ("estimated_agreement>0.985", False), ("estimated_agreement>=0.98", None)],
)  # fmt: skip
def test_the_whole_interval_of_an_estimated_agreement_decides(
    text: str, holds: bool | None
) -> None:
    told = AgreementEstimate(value=0.96, low=0.9, high=0.985, basis="512 fixed images", images=512)
    gate = judge_gate(parse_gate(text), dataclasses.replace(FULL, estimated_agreement=told))
    assert gate.holds is holds
    assert gate.measured is not None
    assert (gate.measured.low, gate.measured.high, gate.measured.n) == (0.9, 0.985, 512)
    assert ("real images would decide" in gate.value) is (holds is None)
    assert gate.value.startswith("96.0 % (90 %: 90.0 to 98.5 %), from 512 fixed images")
    mute = AgreementEstimate(reason="one class")
    gate = judge_gate(parse_gate(text), dataclasses.replace(FULL, estimated_agreement=mute))
    assert (gate.holds, gate.measured) == (None, None)
    assert gate.value == "the agreement on real inputs cannot be estimated: one class"
    assert "not estimated" in judge_gate(parse_gate(text), FULL).value


def test_no_number_of_images_is_given_beyond_a_billion() -> None:
    near = 0.97 + 1e-6
    assert images_for_share(0.97, near, 10) is None  # 3.84 * 0.03 / 1e-12 = 1.1e11
    assert (
        images_for_share(0.97, 0.97 + 1e-4, 10)
        == math.floor(Z**2 * (0.97 + 1e-4) * (0.03 - 1e-4) / 1e-8) + 1
    )
    assert images_for_share(0.5, 0.9, 50) == 51, "more than there were"
    same = paired_drop(20, 20, 10_000)
    assert images_for_drop(same, 1e-6) is None


def test_file_rules_and_accuracy_rules_are_told_apart() -> None:
    topics = {
        text: judge_gate(parse_gate(text), FULL).topic
        for text in ("size<=1x", "size<=1MB", "speedup>=1", "float_nodes<=9", "drop<=1", "top1>=1",
                     "agreement>=0.1", "sqnr>=1", "psnr>=1", "iou>=0.1", "estimated_drop<=1")
    }  # fmt: skip
    assert [text for text, topic in topics.items() if topic == "file"] == list(topics)[:4]


def test_float_nodes_are_listed_and_counted() -> None:
    gate = judge_gate(parse_gate("float_nodes<=1"), FULL)
    assert gate.value == "1: soft (Softmax)"
    bare = dataclasses.replace(FULL, audit=Audit({}, {}, (), "cpu"))
    assert judge_gate(parse_gate("float_nodes==0"), bare).value == "none"


@pytest.mark.parametrize(("text", "bound"), [
    ("size<=3B", 3), ("size<=3KB", 3e3), ("size<=3KiB", 3 * 2**10), ("size<=3MB", 3e6),
    ("size<=3MiB", 3 * 2**20), ("drop<=100", 100), ("top1>=100%", 100), ("agreement>=1", 1),
    ("agreement>=100%", 1), ("miou>=100%", 1), ("correlation>=1", 1),
])  # fmt: skip
def test_units_are_those_of_si_and_iec_and_the_largest_value_is_a_bound(
    text: str, bound: float
) -> None:
    assert parse_gate(text).bound == bound
