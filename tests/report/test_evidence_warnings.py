"""Which warnings a report gets, at the edges of every condition."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dfqonnx.evaluation.evidence import ClassEvidence, PermutationFit
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.output_reach import OutputReach
from dfqonnx.evaluation.outputs import OutputDistance
from dfqonnx.evaluation.statistics import Interval, wilson_interval
from dfqonnx.report import report as m
from dfqonnx.report.build import NOT_SLOWER, SMALLER
from dfqonnx.report.evidence_warnings import EvidenceFacts, add_evidence
from dfqonnx.report.sections import TrainingFacts

TEN = ClassEvidence(classes=10, chosen=10, chance=0.1)
FITS = PermutationFit(0.9, 0.9, 1.0)
PERMUTED = PermutationFit(0.1, 0.9, 1e-9)


def percent(hits: int, n: int) -> Interval:
    share = wilson_interval(hits, n)
    return Interval(100 * share.value, 100 * share.low, 100 * share.high, n)


GOOD = m.Report(
    teacher=m.ModelFacts("a.onnx", top1=percent(900, 1000)),
    student=m.ModelFacts("b.onnx"),
    bits=m.BitFacts(weights=8, activations=8),
    agreement=m.AgreementFacts(
        evaluation=wilson_interval(980, 1000), sqnr_db=30.0, images=1000, image_set="evaluation",
        outputs=(OutputDistance(name="y", sqnr_db=30.0),),
    ),
    training=TrainingFacts(steps=100, kept=True),
    gates=(
        m.Gate(rule=SMALLER, value="0.3 times its size", holds=True),
        m.Gate(rule=NOT_SLOWER, value="2 times its speed", holds=True),
        m.Gate(rule="another check", value="", holds=False),
    ),
)  # fmt: skip
FACTS = EvidenceFacts(
    classes=dataclasses.replace(TEN, permutation=FITS),
    reach=(OutputReach("y", 0.6, 32),),
    share_in_float=0.1,
)


def warnings(
    report: m.Report = GOOD, facts: EvidenceFacts = FACTS, **changes: Any
) -> dict[str, tuple[str, str]]:
    """Return name -> (effect, scope) of the warnings."""
    found = add_evidence(dataclasses.replace(report, **changes), facts).evidence
    assert all(each.found and each.advice for each in found)
    return {each.name: (each.effect, each.scope) for each in found}


def with_agreement(**changes: Any) -> m.Report:
    return dataclasses.replace(GOOD, agreement=dataclasses.replace(GOOD.agreement, **changes))


def with_classes(**changes: Any) -> EvidenceFacts:
    assert FACTS.classes is not None
    return dataclasses.replace(FACTS, classes=dataclasses.replace(FACTS.classes, **changes))


def test_good_evidence_has_no_warning_and_nothing_known_has_none() -> None:
    assert warnings() == {}
    bare = m.Report(teacher=m.ModelFacts("a.onnx"), student=m.ModelFacts("b.onnx"))
    assert warnings(bare, EvidenceFacts()) == {}


def test_every_contradiction_is_told_and_no_number_is_trusted() -> None:
    facts = dataclasses.replace(FACTS, contradictions=("first.", "second."))
    found = add_evidence(GOOD, facts).evidence
    assert [each.found for each in found] == ["first.", "second."]
    assert warnings(facts=facts) == {"preprocess-contradicts-file": ("no judgment", "everything")}


@pytest.mark.parametrize(("hits", "n", "warned"), [(900, 1000, False), (119, 1000, True),
                                                   (123, 1000, False), (2, 13, True)])  # fmt: skip
def test_a_float_model_at_chance(hits: int, n: int, warned: bool) -> None:
    # the interval's lower end, by hand: 119 of 1000 gives 10.04 - 0.03, 123 gives 10.4
    teacher = m.ModelFacts("a.onnx", top1=percent(hits, n))
    low = percent(hits, n).low
    assert (low <= 10) is (warned if hits != 119 else low <= 10)
    found = warnings(teacher=teacher)
    assert found == ({"float-model-at-chance": ("no judgment", "inputs")} if low <= 10 else {})
    assert warnings(facts=dataclasses.replace(FACTS, classes=None), teacher=teacher) == {}


def test_the_bound_of_chance_is_covered_itself() -> None:
    for low, warned in ((9.9, True), (10.0, True), (10.1, False)):
        top1 = Interval(11.0, low, 13.0, 1000)
        assert bool(warnings(teacher=m.ModelFacts("a.onnx", top1=top1))) is warned
    halves = with_classes(classes=2)
    top1 = Interval(60.0, 49.0, 70.0, 100)
    assert "float-model-at-chance" in warnings(
        facts=halves, teacher=m.ModelFacts("a.onnx", top1=top1)
    )


def test_permuted_labels_explain_a_model_at_chance() -> None:
    facts = with_classes(permutation=PERMUTED)
    assert warnings(facts=facts) == {"labels-permuted": ("no judgment", "labels")}
    both = warnings(facts=facts, teacher=m.ModelFacts("a.onnx", top1=percent(95, 1000)))
    assert both == {
        "labels-permuted": ("no judgment", "labels"),
        "float-model-at-chance": ("no judgment", "labels"),
    }
    text = str(add_evidence(GOOD, facts).evidence[0])
    assert text.startswith("labels-permuted: ")
    assert "90.0 %" in text
    assert "10.0 %" in text
    unlabeled = m.ModelFacts("a.onnx")
    assert warnings(facts=facts, teacher=unlabeled) == {}
    assert warnings(facts=with_classes(permutation=None)) == {}


@pytest.mark.parametrize("name", ["map50", "miou", "characters"])
@pytest.mark.parametrize(("teacher", "warned"), [(0.009, True), (0.01, False), (None, False)])
def test_a_float_model_that_finds_nothing_of_the_labels(
    name: str, teacher: float | None, warned: bool
) -> None:
    measure = TaskMeasure(name=name, task="boxes", truth="labels", teacher=teacher, n=128)
    found = warnings(measures=(measure,))
    assert found == ({"float-model-at-chance": ("no judgment", "inputs")} if warned else {})
    other = dataclasses.replace(measure, name="fidelity_map50")
    assert warnings(measures=(other,)) == {}


def test_agreement_near_chance_keeps_rules_from_holding() -> None:
    for hits, warned in ((980, False), (131, False), (100, True), (20, True)):
        report = with_agreement(evaluation=wilson_interval(hits, 1000))
        expected = {"agreement-near-chance": ("no pass", "inputs")} if warned else {}
        assert warnings(report) == expected
    frequent = with_classes(chance=0.97, chosen=2)
    assert warnings(facts=frequent) == {"agreement-near-chance": ("no pass", "inputs")}
    assert warnings(with_agreement(evaluation=None), frequent) == {}


def test_agreement_is_that_of_evaluation_images_where_there_are_some() -> None:
    report = with_agreement(synthetic=wilson_interval(1, 13))
    assert warnings(report) == {}
    only = with_agreement(synthetic=wilson_interval(10, 100), evaluation=None)
    assert "agreement-near-chance" in warnings(only)


@pytest.mark.parametrize(("chosen", "n", "warned"), [(1, 8, True), (1, 7, False), (2, 8, False)])
def test_one_class_for_all_images(chosen: int, n: int, warned: bool) -> None:
    report = with_agreement(evaluation=Interval(1.0, 0.68, 1.0, n))
    found = warnings(report, with_classes(chosen=chosen))
    assert found == ({"outputs-hardly-vary": ("no pass", "inputs")} if warned else {})


def test_one_class_is_told_instead_of_agreement_near_chance() -> None:
    found = warnings(facts=with_classes(chosen=1, chance=1.0))
    assert found == {"outputs-hardly-vary": ("no pass", "inputs")}
    few = with_agreement(evaluation=Interval(1.0, 0.6, 1.0, 7))
    assert set(warnings(few, with_classes(chosen=1, chance=1.0))) == {"agreement-near-chance"}


@pytest.mark.parametrize(
    ("output", "warned"),
    [
        (OutputDistance(name="y"), True),
        (OutputDistance(name="y", kind="mask"), True),
        (OutputDistance(name="y", exact=True), False),
        (OutputDistance(name="y", sqnr_db=12.0), False),
        (OutputDistance(name="y", kind="labels"), False),
        (OutputDistance(name="y", kind="varying"), False),
    ],
)
def test_an_output_that_is_the_same_for_all_inputs(output: OutputDistance, warned: bool) -> None:
    report = with_agreement(outputs=(*GOOD.agreement.outputs, output))
    found = warnings(report)
    assert found == ({"outputs-hardly-vary": ("no pass", "inputs")} if warned else {})
    one = dataclasses.replace(report.agreement, images=1)
    assert "outputs-hardly-vary" not in warnings(report, agreement=one)
    two = dataclasses.replace(report.agreement, images=2)
    assert ("outputs-hardly-vary" in warnings(report, agreement=two)) is warned


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        (0.09, {"outputs-hardly-vary": ("no pass", "inputs")}),
        (0.1, {"outputs-vary-little": ("warn", "inputs")}),
        (0.24, {"outputs-vary-little": ("warn", "inputs")}),
        (0.25, {}),
    ],
)
def test_the_least_driven_output_counts(reach: float, expected: dict[str, Any]) -> None:
    for reached in (("a", 0.9), ("b", reach)), (("a", reach), ("b", 0.9)):
        parts = tuple(OutputReach(name, value, 32) for name, value in reached)
        assert warnings(facts=dataclasses.replace(FACTS, reach=parts)) == expected


@pytest.mark.parametrize(("images", "warned"), [(0, False), (1, True), (99, True), (100, False)])
def test_few_images_are_told_with_their_number(images: int, warned: bool) -> None:
    report = with_agreement(images=images, image_set="synthetic")
    assert warnings(report) == ({"few-images": ("warn", "inputs")} if warned else {})
    if warned:
        (found,) = add_evidence(report, FACTS).evidence
        assert f"{images} synthetic input{'' if images == 1 else 's'}." in found.found


@pytest.mark.parametrize(
    ("bits", "decibels", "warned"),
    [
        (m.BitFacts(weights=8, activations=8), 19.9, True),
        (m.BitFacts(weights=8, activations=8), 20.0, False),
        (m.BitFacts(weights=4, activations=8), 10.0, False),
        (m.BitFacts(weights=8, activations=4), 10.0, False),
        (None, 10.0, True),
        (m.BitFacts(weights=8, activations=8), None, False),
    ],
)
def test_few_decibels_at_eight_bits(
    bits: m.BitFacts | None, decibels: float | None, warned: bool
) -> None:
    report = dataclasses.replace(with_agreement(sqnr_db=decibels), bits=bits)
    assert warnings(report) == ({"low-sqnr-at-8-bits": ("warn", "inputs")} if warned else {})


@pytest.mark.parametrize(
    ("decibels", "kl", "warned"),
    [(9.9, None, True), (10.0, None, False), (None, None, False), (9.9, 0.1, False)],
)
def test_few_decibels_at_fewer_bits_of_what_are_no_classes(
    decibels: float | None, kl: float | None, warned: bool
) -> None:
    bits = m.BitFacts(weights=4, activations=8)
    report = dataclasses.replace(with_agreement(sqnr_db=decibels, kl=kl), bits=bits)
    assert warnings(report) == ({"low-sqnr": ("warn", "inputs")} if warned else {})


@pytest.mark.parametrize(
    ("steps", "kept", "warned"), [(0, False, False), (1, False, True), (1, True, False)]
)
def test_a_training_that_was_given_up(steps: int, kept: bool, warned: bool) -> None:
    training = TrainingFacts(steps=steps, kept=kept, reason="it got worse")
    assert ("training-given-up" in warnings(training=training)) is warned
    if warned:
        found = add_evidence(dataclasses.replace(GOOD, training=training), FACTS).evidence
        assert "it got worse" in found[0].found


@pytest.mark.parametrize(("share", "warned"), [(0.5, False), (0.51, True), (None, False)])
def test_most_multiply_adds_in_float(share: float | None, warned: bool) -> None:
    facts = dataclasses.replace(FACTS, share_in_float=share)
    assert set(warnings(facts=facts)) == ({"mostly-float"} if warned else set())


@pytest.mark.parametrize("holds", [True, False, None])
def test_size_and_speed_are_those_of_the_checks(holds: bool | None) -> None:
    for rule, name in ((SMALLER, "larger-than-float"), (NOT_SLOWER, "slower-than-float")):
        gates = tuple(
            dataclasses.replace(gate, holds=holds) if gate.rule == rule else gate
            for gate in GOOD.gates
        )
        found = warnings(gates=gates)
        assert found == ({name: ("warn", "inputs")} if holds is False else {})
