"""The comparison's rows, columns and chart: the float model stands beside its students."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.comparison import ComparedStudent, ComparisonTable
from dfqonnx.report.html.charts import spread_apart
from dfqonnx.report.html.comparison_page import render_comparison
from dfqonnx.report.report import Report
from dfqonnx.report.sections import AgreementFacts, ModelFacts

TEACHER = ModelFacts("net.onnx", bytes=4096)
STUDENT = Report(teacher=TEACHER, student=ModelFacts("net.w8a8.onnx", bytes=1024))
MAP50 = TaskMeasure(
    name="map50", task="boxes", truth="labels", teacher=0.34, student=0.33, n=9,
    inputs="evaluation", meaning="how well boxes fit.",
)  # fmt: skip
FIDELITY = dataclasses.replace(MAP50, name="fidelity_map50", truth="float model", teacher=None)
BOXES = dataclasses.replace(STUDENT, measures=(MAP50,))
CLOSE = dataclasses.replace(STUDENT, measures=(FIDELITY,))
SHARE = dataclasses.replace(
    STUDENT, agreement=AgreementFacts(synthetic=Interval(0.9, 0.8, 0.95, 50), kl=0.1)
)
NOISE = dataclasses.replace(STUDENT, agreement=AgreementFacts(sqnr_db=21.25))
TOP1 = dataclasses.replace(
    SHARE,
    teacher=dataclasses.replace(TEACHER, top1=Interval(91.0, 90.0, 92.0, 50)),
    student=dataclasses.replace(STUDENT.student, top1=Interval(90.0, 89.0, 91.0, 50)),
)


def table_of(*reports: Report | None) -> ComparisonTable:
    students = (
        ComparedStudent(f"student{k}", f"{k}.onnx", each, "" if each else "does not fit")
        for k, each in enumerate(reports, 1)
    )
    teacher = next(each.teacher for each in reports if each is not None)
    return ComparisonTable(teacher=teacher, images="ten", students=tuple(students), preprocess={})


@pytest.mark.parametrize(
    ("report", "column", "float_number", "float_cell"),
    [
        (BOXES, "map50", 0.34, "0.34"),
        (CLOSE, "fidelity_map50", None, None),
        (TOP1, "top-1", 91.0, "91.00 %"),
        (SHARE, "agreement", 100.0, "100.00 %"),
        (NOISE, "SQNR", None, None),
    ],
)
def test_the_float_model_is_in_the_table_and_in_the_chart(
    report: Report, column: str, float_number: float | None, float_cell: str | None
) -> None:
    table = table_of(report, None, report)
    assert [row.label for row in table.rows] == ["F", "1", "3"]
    first = table.rows[0]
    assert (first.bits, first.cells["KiB"], first.cells["size"]) == ("float", "4", "1.000")
    assert table.charted == column
    assert first.numbers.get(column) == float_number
    assert first.cells.get(column) == float_cell
    page = render_comparison(table)
    assert "float model</th>" in page
    drawn = page[page.index("<svg") : page.index("</svg>")]
    labels = re.findall(r"<text[^>]*>([F\d])</text>", drawn)
    assert {"F", "1", "3"} <= set(labels)
    assert ("The dashed line is the float model" in page) == (float_number is None)


def test_students_of_one_size_and_one_accuracy_have_labels_apart() -> None:
    page = render_comparison(table_of(BOXES, BOXES, BOXES))
    drawn = page[page.index("<svg") : page.index("</svg>")]
    found = re.findall(r"x=\"([\d.]+)\"[^>]*>[123]</text>|translate\(([\d.]+) [^>]*>[123]<", drawn)
    places = sorted(float(a or b) for a, b in found)
    assert len(places) == 3
    assert min(np.diff(places)) > 10  # pixels, and a digit has six


def test_the_columns_that_are_shown_are_explained_and_no_others() -> None:
    words = " ".join(table_of(BOXES).describe_columns())
    assert words.startswith("map50: how well boxes fit. Size")
    assert "Agreement" not in words
    words = " ".join(table_of(SHARE).describe_columns())
    assert "Agreement is the share" in words
    assert "map50" not in words
    worse = dataclasses.replace(MAP50, name="wer", higher_is_better=False)
    words = " ".join(table_of(dataclasses.replace(STUDENT, measures=(worse,))).describe_columns())
    assert words.startswith("wer (lower is better): ")


def test_the_json_lists_the_rows() -> None:
    rows = json.loads(table_of(BOXES).to_json())["rows"]
    assert [row["label"] for row in rows] == ["F", "1"]
    assert rows[0]["numbers"] == {"map50": 0.34, "KiB": 4.0, "size": 1.0}
    assert rows[1]["numbers"] == {"map50": 0.33, "KiB": 1.0, "size": 0.25}


def test_numbers_that_are_not_finite_are_unknown() -> None:
    report = dataclasses.replace(STUDENT, agreement=AgreementFacts(sqnr_db=float("inf")))
    table = table_of(report)
    assert table.charted is None
    assert "rows" in json.loads(table.to_json())


def test_places_are_spread_apart_in_order_and_those_with_room_stay() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        places = list(rng.choice([0.1, 0.2, 0.21, 0.5, 0.52, 1.0], rng.integers(1, 9)))
        found = np.array(spread_apart(places, 0.05))
        order = np.argsort(places, kind="stable")
        assert (np.diff(found[order]) >= 0.05 - 1e-12).all()
        assert np.mean(found) == pytest.approx(np.mean(places))
    assert spread_apart([1.0, 0.2, 0.6], 0.1) == [1.0, 0.2, 0.6]
    np.testing.assert_allclose(spread_apart([0.5, 0.5, 1.0], 0.1), [0.45, 0.55, 1.0])
