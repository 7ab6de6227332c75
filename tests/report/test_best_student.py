"""The best of several students in words, and whom it cannot be told from."""

from __future__ import annotations

import dataclasses

import pytest

from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.best_student import describe_best
from dfqonnx.report.comparison import ComparedStudent, ComparisonTable
from dfqonnx.report.html.comparison_page import render_comparison
from dfqonnx.report.report import Report
from dfqonnx.report.sections import AgreementFacts, ModelFacts

TEACHER = ModelFacts("net.onnx", bytes=4000)


def agreeing(value: float, low: float, high: float, size: int = 1000) -> Report:
    student = ModelFacts("net.w8a8.onnx", bytes=size)
    share = Interval(value, low, high, 50)
    return Report(teacher=TEACHER, student=student, agreement=AgreementFacts(synthetic=share))


def measured(value: float, *, higher: bool, interval: Interval | None = None) -> Report:
    measure = TaskMeasure(
        name="mae", task="values", truth="float model", student=value, n=9,
        higher_is_better=higher, interval=interval,
    )  # fmt: skip
    return dataclasses.replace(agreeing(0.5, 0.4, 0.6), measures=(measure,))


def table_of(**reports: Report) -> ComparisonTable:
    students = (ComparedStudent(name, f"{name}.onnx", each) for name, each in reports.items())
    return ComparisonTable(
        teacher=TEACHER, images="ten", students=tuple(students), preprocess={}
    )  # fmt: skip


def sentences(**reports: Report) -> str:
    return " ".join(describe_best(table_of(**reports)))


def test_the_best_is_named_with_those_whose_interval_meets_its_own() -> None:
    found = sentences(
        a=agreeing(0.90, 0.85, 0.94), b=agreeing(0.95, 0.91, 0.98), c=agreeing(0.5, 0.4, 0.6)
    )
    assert found.startswith("Best by agreement: b (95.00 %). Its 95 % interval overlaps with that")
    assert "that of a: on 50 inputs they cannot be told apart." in found


def test_a_best_that_stands_alone_is_said_to() -> None:
    found = sentences(a=agreeing(0.90, 0.88, 0.92), b=agreeing(0.97, 0.95, 0.98))
    assert "Its 95 % interval overlaps with that of no other." in found


@pytest.mark.parametrize(("higher", "best"), [(True, "b"), (False, "a")])
def test_less_may_be_better(higher: bool, best: str) -> None:
    found = sentences(a=measured(0.1, higher=higher), b=measured(0.2, higher=higher))
    assert f"Best by mae: {best} (" in found
    assert "Nothing says how far such a difference is chance." in found


def test_equal_students_are_best_together_and_the_smallest_is_named() -> None:
    found = sentences(
        a=agreeing(1.0, 0.9, 1.0, 1000), b=agreeing(1.0, 0.9, 1.0, 2000), c=agreeing(0.5, 0.4, 0.6)
    )
    assert "Best by agreement: a and b (100.00 %)." in found
    assert found.endswith("Smallest are a and c (0.25 times the float file).")


def test_one_student_is_no_winner_and_the_page_says_what_the_sentences_say() -> None:
    assert sentences(a=agreeing(1.0, 0.9, 1.0)) == ""
    table = table_of(a=agreeing(0.90, 0.88, 0.92), b=agreeing(0.97, 0.95, 0.98))
    assert " ".join(describe_best(table)) in render_comparison(table)
