"""Measures of a task in reports and gates: numbers, direction, and what stays undecided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from dfqonnx.config.gates import GateRule, MeasureRef, parse_gate
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.heads.detections import Detections
from dfqonnx.evaluation.measures.side_pictures import SidePicture
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.best_student import known_interval
from dfqonnx.report.ci import format_junit
from dfqonnx.report.comparison import ComparedStudent, ComparisonTable
from dfqonnx.report.files import read_report, rewrite_page, write_report
from dfqonnx.report.gate_verdicts import (
    apply_gates,
    default_rule,
    images_for_interval,
    judge_gate,
)
from dfqonnx.report.html.side_by_side import GAP, PANEL, class_color, draw_side_by_side
from dfqonnx.report.measure_lines import (
    describe_measure,
    main_measure,
    measure_lines,
    measure_rows,
)
from dfqonnx.report.report import Report
from dfqonnx.report.sections import ModelFacts
from dfqonnx.report.text import describe_figures, format_markdown

MAP50 = TaskMeasure(
    name="map50", task="boxes", truth="labels", teacher=0.34, student=0.33, n=128,
    inputs="evaluation", meaning="how well <b>boxes</b> | fit",
)  # fmt: skip
FIDELITY = TaskMeasure(
    name="fidelity_map50", task="boxes", truth="float model", student=0.97, n=20, meaning="the same"
)
ERROR = TaskMeasure(
    name="wer", task="custom", truth="labels", teacher=0.1, student=0.15, n=9, inputs="evaluation",
    higher_is_better=False, meaning="words",
)  # fmt: skip


def report(*measures: TaskMeasure) -> Report:
    return Report(
        teacher=ModelFacts("a.onnx", bytes=10),
        student=ModelFacts("b.onnx", bytes=5),
        measures=measures,
    )


@pytest.mark.parametrize(
    ("text", "custom", "rule"),
    [
        ("map50>=0.3", False, GateRule("map50>=0.3", MeasureRef("map50"), ">=", 0.3)),
        ("map50 >= 30%", False, GateRule("map50>=30%", MeasureRef("map50"), ">=", 0.3)),
        ("miou.drop<-1%", False, GateRule("miou.drop<-1%", MeasureRef("miou", True), "<", -0.01)),
        ("top1.drop<1pp", False, GateRule("top1.drop<1pp", MeasureRef("top1", True), "<", 1.0)),
        ("ssim>0.9", False, GateRule("ssim>0.9", MeasureRef("ssim"), ">", 0.9)),
        ("correlation>=-0.5", False,
         GateRule("correlation>=-0.5", MeasureRef("correlation"), ">=", -0.5)),
        ("label_psnr>9dB", False, GateRule("label_psnr>9dB", MeasureRef("label_psnr"), ">", 9)),
        ("wer<=0.1", True, GateRule("wer<=0.1", MeasureRef("wer", False, True), "<=", 0.1)),
        ("wer.drop<=2%", True, GateRule("wer.drop<=2%", MeasureRef("wer", True, True), "<=", 0.02)),
    ],
)  # fmt: skip
def test_rules_about_measures_are_read(text: str, custom: bool, rule: GateRule) -> None:
    assert parse_gate(text, custom=custom) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("map51>=0.3", "unknown metric 'map51'; did you mean 'map50'"),
        ("wer<=0.1", "unknown metric 'wer'"),
        ("map50>=30", "at most 1"),
        ("map50>=30dB", "unknown unit 'dB'"),
        ("fidelity_map50.drop<=0.1", "has no drop"),
        ("size.drop<=0.1", "has no drop"),
        ("mae<=-1", "never negative"),
        ("map50==0.3", "cannot be decided"),
        (".drop<=1", "begins with a metric"),
    ],
)
def test_other_rules_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("map50>=0.33", True),
        ("map50>0.33", False),
        ("map50.drop<=0.011", True),
        ("map50.drop<=0.009", False),
        ("wer<=0.15", True),
        ("wer.drop<=0.04", False),
        ("wer.drop<=0.06", True),
        ("fidelity_map50>=0.98", False),
        ("miou>=0.1", None),
        ("fidelity_miou>=0.1", None),
    ],
)
def test_rules_hold_the_students_number_or_what_it_lost(text: str, holds: bool | None) -> None:
    gate = judge_gate(parse_gate(text, custom=True), report(MAP50, FIDELITY, ERROR))
    assert gate.holds is holds
    assert gate.topic == "accuracy"
    assert (gate.measured is None) == (holds is None)


SURE = replace(
    MAP50, interval=Interval(0.33, 0.28, 0.37, 128), drop_interval=Interval(0.01, -0.004, 0.02, 128)
)


@pytest.mark.parametrize(
    ("text", "holds", "needed"),
    [
        ("map50>=0.28", True, None),
        ("map50>0.28", None, 129),  # the bound is an end of the interval
        ("map50>=0.3", None, 356),  # 128 (0.05 / 0.03)^2 = 355.6
        ("map50<=0.35", None, 513),  # 128 (0.04 / 0.02)^2 = 512 exactly
        ("map50>=0.38", False, None),
        ("map50>=0.33", None, None),  # on the figure itself
        ("map50.drop<=0.02", True, None),
        ("map50.drop<=0.015", None, 513),
        ("map50.drop<=-0.005", False, None),
    ],
)
def test_the_whole_interval_of_a_measure_decides(
    text: str, holds: bool | None, needed: int | None
) -> None:
    gate = judge_gate(parse_gate(text), report(SURE))
    assert gate.holds is holds
    assert gate.measured is not None
    assert gate.measured.images_needed == needed
    interval = SURE.drop_interval if ".drop" in text else SURE.interval
    assert interval is not None
    assert (gate.measured.low, gate.measured.high) == (interval.low, interval.high)
    assert ("numbers stay as measured" in gate.value) is (needed is not None)
    assert "95 %: 0.28 to 0.37" in gate.value


def test_no_number_of_images_beyond_a_billion_decides_a_measure() -> None:
    found = Interval(0.5, 0.4, 0.6, 1000)
    assert images_for_interval(found, 0.5 + 1e-5) is None  # 1000 (0.1 / 1e-5)^2 = 1e11
    assert images_for_interval(found, 0.53) == 11_112  # 1000 (0.1 / 0.03)^2 = 11,111.1
    assert images_for_interval(found, 0.9) == 1001, "more than there were"


def test_a_number_without_an_interval_says_why() -> None:
    texts = {
        judge_gate(parse_gate(text, custom=True), report(*found)).value.rpartition("no interval: ")[
            2
        ]
        for text, found in (
            ("wer<=0.15", (ERROR,)),
            ("map50>=0.1", (replace(MAP50, n=1),)),
            ("fidelity_map50>=0.1", (FIDELITY,)),
        )
    }
    assert texts == {
        "the function returns totals, so the number is taken as it is",
        "one input has none",
        "too few of the inputs say something",
    }


def test_psnr_and_iou_are_rules_about_measures() -> None:
    assert parse_gate("psnr>=30").quantity == MeasureRef("psnr")
    assert parse_gate("iou>=90%").quantity == MeasureRef("fidelity_miou")
    assert parse_gate("iou>=90%").bound == 0.9


def test_intervals_are_in_tables_lines_and_the_ci_file(tmp_path: Path) -> None:
    row = measure_rows([SURE])[0]
    assert (row.student, row.drop) == ("0.33 (0.28 to 0.37)", "0.01 (-0.004 to 0.02)")
    text = describe_measure(SURE)
    assert (
        "(95 %: 0.28 to 0.37, n = 128 evaluation inputs; 0.01 worse, 95 %: -0.004 to 0.02)" in text
    )
    write_report(report(SURE, FIDELITY), tmp_path)
    properties = ElementTree.fromstring(format_junit(report(SURE))).iterfind(".//property")
    assert {"name": "map50, evaluation", "value": text} in [each.attrib for each in properties]
    content = json.loads((tmp_path / "report.json").read_text())["measures"]
    assert content[0]["interval"] == {"value": 0.33, "low": 0.28, "high": 0.37, "n": 128}
    assert content[0]["drop_interval"]["low"] == -0.004
    assert content[1]["interval"] is None
    assert read_report(tmp_path).measures == (SURE, FIDELITY)
    students = [ComparedStudent("a", "a", report(SURE))]
    table = ComparisonTable(teacher=ModelFacts("t.onnx"), images="ten", students=tuple(students),
                            preprocess={})  # fmt: skip
    assert students[0].cells["map50"] == "0.33 (0.28 to 0.37)"
    assert known_interval(table, "1", "map50") == SURE.interval


def test_a_rule_without_its_measure_says_what_was_measured_instead() -> None:
    found = report(FIDELITY)
    labeled = judge_gate(parse_gate("map50>=0.3"), found)
    assert "labeled images are needed" in labeled.value
    assert "measured: fidelity_map50" in labeled.value
    unknown = TaskMeasure(
        name="fidelity_map50", task="boxes", truth="float model", meaning="finds nothing"
    )
    gate = judge_gate(parse_gate("fidelity_map50>=0.9"), report(unknown))
    assert (gate.holds, gate.value) == (None, "finds nothing")


def test_strict_judges_a_detector_by_its_boxes() -> None:
    assert default_rule(report(MAP50, FIDELITY)).text == "map50.drop<=0.01"
    assert default_rule(report(FIDELITY)).text == "fidelity_map50>=0.95"
    assert default_rule(report()).text == "sqnr>=20"
    strict = apply_gates(report(FIDELITY), (), strict=True)
    assert strict.accuracy.status == "pass"


def test_the_headline_names_the_measure_on_the_best_inputs() -> None:
    found = report(FIDELITY, MAP50)
    assert main_measure(found.measures) == MAP50
    text = describe_figures(found)
    assert "map50 0.33 instead of the float model's 0.34 (n = 128 evaluation inputs)" in text
    assert main_measure([ERROR, MAP50]) == ERROR  # what the user wants measured comes first
    assert main_measure([]) is None


def test_lines_and_rows_say_what_numbers_mean() -> None:
    classes = TaskMeasure(name="top1", task="classes", truth="labels", student=90.0)
    labels = [label for label, _ in measure_lines([classes, MAP50, FIDELITY])]
    assert labels == ["map50", "fidelity_map50"]
    row = measure_rows([MAP50])[0]
    assert (row.teacher, row.student, row.drop) == ("0.34", "0.33", "0.01")
    assert measure_rows([FIDELITY])[0].teacher == ""


def test_a_comparison_has_a_column_for_the_measure() -> None:
    psnr = TaskMeasure(
        name="psnr", task="images", truth="float model", student=31.25, unit=" dB", n=9, meaning="x"
    )
    students = [ComparedStudent(name, name, report(each)) for name, each in
                (("a", MAP50), ("b", psnr))] + [ComparedStudent("c", "c", report())]  # fmt: skip
    table = ComparisonTable(
        teacher=ModelFacts("t.onnx"), images="ten", students=tuple(students), preprocess={}
    )
    assert table.headings[:2] == ["map50", "psnr"]
    assert students[0].cells["map50"] == "0.33"
    assert students[1].cells["psnr"] == "31.25 dB"
    assert students[1].numbers["psnr"] == 31.25
    assert not {"map50", "psnr"} & set(students[2].cells)


def picture() -> SidePicture:
    pixels = np.zeros((32, 64, 3), np.uint8)
    box = Detections(np.array([[8.0, 8.0, 40.0, 24.0]]), np.array([0.9]), np.array([3]))
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    return SidePicture(pixels, box, nothing)


def test_boxes_are_drawn_where_they_are() -> None:
    drawn = np.asarray(draw_side_by_side(picture()))
    assert drawn.shape == (PANEL // 2, 3 * PANEL + 2 * GAP, 3)
    panels = [drawn[:, k * (PANEL + GAP) :][:, :PANEL] for k in range(3)]
    assert panels[0].max() == 0
    assert panels[2].max() == 0
    factor = PANEL // 64
    for y, x in ((8, 20), (20, 8), (23.9, 30), (20, 39.9)):
        near = panels[1][int(y * factor) - 1 : int(y * factor) + 2]
        near = near[:, int(x * factor) - 1 : int(x * factor) + 2].reshape(-1, 3)
        assert (near == class_color(3)).all(1).any()


def test_masks_and_pictures_are_drawn_beside_the_input() -> None:
    pixels = np.full((16, 16, 1), 200, np.uint8)
    mask = np.zeros((16, 16), np.int64)
    mask[:8] = 5
    drawn = np.asarray(draw_side_by_side(SidePicture(pixels, mask, np.zeros_like(mask))))
    top, bottom = drawn[4, PANEL + GAP + 4], drawn[-4, PANEL + GAP + 4]
    np.testing.assert_allclose(top, (np.array(class_color(5)) + 200) / 2, atol=1)  # half opaque
    np.testing.assert_array_equal(bottom, [200] * 3)
    shown = np.full((32, 32, 3), 7, np.uint8)
    drawn = np.asarray(draw_side_by_side(SidePicture(pixels, shown, shown)))
    assert (drawn[:, PANEL + GAP : 2 * PANEL + GAP] == 7).all()


def test_everything_is_in_the_files_and_names_are_escaped(tmp_path: Path) -> None:
    written = write_report(report(MAP50, FIDELITY), tmp_path, pictures=[picture()])
    assert "pictures/01.png" in written.files
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["measures"][0]["drop"] == pytest.approx(0.01)
    assert read_report(tmp_path).measures == (MAP50, FIDELITY)
    page = (tmp_path / "report.html").read_text()
    assert "how well &lt;b&gt;boxes&lt;/b&gt; | fit" in page
    assert page.count("data:image/png;base64") == 1
    assert "how well" in format_markdown(written)
    assert "\n<b>" not in format_markdown(written)
    before = page
    rewrite_page(tmp_path)
    assert (tmp_path / "report.html").read_text() == before
    with Image.open(tmp_path / "pictures" / "01.png") as drawn:
        assert drawn.width == 3 * PANEL + 2 * GAP
