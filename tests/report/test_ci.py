"""What build servers read: junit.xml against two schemas, annotations, summary, outputs."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from dfqonnx.config.gates import parse_gates
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.statistics import wilson_interval
from dfqonnx.report import report as m
from dfqonnx.report.ci import (
    MAX_SUMMARY_BYTES,
    format_annotations,
    format_junit,
    step_outputs,
    write_github_outputs,
)
from dfqonnx.report.files import write_report
from dfqonnx.report.gate_verdicts import apply_gates
from dfqonnx.report.text import format_markdown

HERE = Path(__file__).parent
RULES = parse_gates(["size<=0.2x", "size<=0.1x", "agreement>=0.97", "drop<=1"])
BARE = m.Report(
    teacher=m.ModelFacts("net.onnx", "ab", 1000),
    student=m.ModelFacts("net.w4a4.onnx", "cd", 170),
    agreement=m.AgreementFacts(evaluation=wilson_interval(970, 1000)),
    seconds={"total": 12.3456},
    gates=(m.Gate(rule="a check", value="passed", holds=True),),
    warnings=("first", "second"),
)
FULL = apply_gates(BARE, RULES)
STRICT = apply_gates(BARE, RULES, strict=True)
NASTY = dataclasses.replace(
    BARE,
    student=m.ModelFacts('<&"\x00\x1b.onnx'),
    gates=(
        m.Gate(rule="a <rule> & \x07 more", value="50 % of\nnodes, or: more\ud800", holds=False),
    ),
)


@pytest.fixture(scope="module", params=["junit_ant.xsd", "junit_jenkins.xsd"])
def schema(request: pytest.FixtureRequest) -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(HERE / request.param)


@pytest.mark.parametrize(
    "report",
    [BARE, FULL, STRICT, NASTY, dataclasses.replace(BARE, gates=())],
    ids=["checks", "rules", "strict", "nasty", "nothing"],
)
def test_junit_xml_keeps_to_its_schemas(report: m.Report, schema: xmlschema.XMLSchema) -> None:
    schema.validate(format_junit(report))


def test_the_schemas_refuse_what_build_servers_refuse(schema: xmlschema.XMLSchema) -> None:
    page = format_junit(FULL)
    for broken in (page.replace("classname=", "clazz="), page.replace('tests="5"', 'tests="x"')):
        assert not schema.is_valid(broken)


@pytest.mark.parametrize(("report", "failures", "skipped"), [(FULL, 1, 2), (STRICT, 3, 0)])
def test_the_counts_are_those_of_the_cases(report: m.Report, failures: int, skipped: int) -> None:
    suite = ElementTree.fromstring(format_junit(report))[0]
    counts = {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 5, "failures": failures, "errors": 0, "skipped": skipped}
    assert len(suite.findall("testcase")) == 5
    assert len(suite.findall("testcase/failure")) == failures
    assert len(suite.findall("testcase/skipped")) == skipped
    assert suite.attrib["time"] == "12.346"


def test_built_in_checks_and_gates_have_their_own_classes_and_reasons_are_kept() -> None:
    suite = ElementTree.fromstring(format_junit(FULL))[0]
    names = {case.attrib["name"]: case.attrib["classname"] for case in suite.iter("testcase")}
    assert names["a check"] == "dfqonnx.file"
    assert names["size<=0.1x"] == "dfqonnx.file"
    assert names["drop<=1"] == "dfqonnx.accuracy"
    (failure,) = suite.iter("failure")
    assert failure.attrib == {"type": "fail", "message": "0.1700 times the float file"}
    messages = [skipped.attrib["message"] for skipped in suite.iter("skipped")]
    assert messages[1] == "inconclusive: labeled images are needed: give --eval-data"


def test_a_result_without_a_rule_about_accuracy_has_a_skipped_case_that_says_so() -> None:
    check = m.Gate(rule="smaller", value="1.4 times", holds=False, is_required=False)
    suite = ElementTree.fromstring(format_junit(dataclasses.replace(BARE, gates=(check,))))[0]
    assert (suite.attrib["tests"], suite.attrib["skipped"]) == ("2", "2")
    assert [skipped.attrib["message"] for skipped in suite.iter("skipped")] == [
        "warning: 1.4 times",
        "inconclusive: accuracy not judged (no rule)",
    ]
    assert not list(suite.iter("failure"))


def test_every_warning_about_the_evidence_is_told_to_the_build() -> None:
    warning = m.EvidenceWarning(name="few-images", found="13 images.", advice="Give more.")
    report = dataclasses.replace(FULL, evidence=(warning,))
    assert "::warning title=few-images::13 images. Give more." in list(format_annotations(report))
    assert "few-images: 13 images. Give more." in format_junit(report)
    assert "| `few-images` | 13 images. | Give more. |" in format_markdown(report)


def test_a_measure_of_any_name_is_a_property_of_valid_xml() -> None:
    """A custom measure is called as its author likes, and so may be read from a damaged report."""
    name = "a\x1b[2J\x00<b>\n"
    measure = TaskMeasure(name=name, task="custom", truth="labels", student=0.5, n=3, meaning="")
    page = format_junit(dataclasses.replace(FULL, measures=(measure,)))
    names = [each.get("name", "") for each in ElementTree.fromstring(page).iter("property")]
    (found,) = [each for each in names if "<b>" in each]
    assert found.startswith("a\\x1b[2J\\x00<b>")


def test_the_time_stamp_is_utc_without_a_zone() -> None:
    east = datetime(2024, 5, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert 'timestamp="2024-04-30T23:30:00"' in format_junit(FULL, now=east)
    assert 'timestamp="2024-05-01T00:00:00"' in format_junit(
        FULL, now=datetime(2024, 5, 1, tzinfo=UTC)
    )


def test_junit_xml_is_written_only_when_the_user_set_a_rule(tmp_path: Path) -> None:
    for name, report in (("bare", BARE), ("full", FULL)):
        (tmp_path / name).mkdir()
        written = write_report(report, tmp_path / name)
        assert ("junit.xml" in written.files) is (name == "full")
        assert (tmp_path / name / "junit.xml").is_file() is (name == "full")
    data = (tmp_path / "full" / "junit.xml").read_bytes()
    assert data.startswith(b"<?xml version='1.0' encoding='utf-8'?>")


def test_every_gate_that_is_not_kept_becomes_an_annotation() -> None:
    found = list(format_annotations(FULL))
    assert found[0] == "::error title=gate fails%3A size<=0.1x::0.1700 times the float file"
    assert found[1].startswith(
        "::warning title=gate is inconclusive%3A agreement>=0.97::97.00 %25 (95"
    )
    assert found[2].startswith(
        "::warning title=gate is inconclusive%3A drop<=1::labeled images are needed"
    )
    assert found[-1].startswith("::notice title=dfqonnx fail::net.w4a4.onnx: file checks fail")
    assert [line.split(" ")[0] for line in format_annotations(STRICT)][:3] == ["::error"] * 3


def test_annotations_stay_on_one_line_whatever_names_hold() -> None:
    line = next(iter(format_annotations(NASTY)))
    assert "\n" not in line
    assert line.endswith("::50 %25 of%0Anodes, or: more\\ud800")


def test_summary_and_outputs_are_appended_where_the_runner_wants_them(tmp_path: Path) -> None:
    summary, output = tmp_path / "summary.md", tmp_path / "output.txt"
    summary.write_text("before\n")
    files = ("junit.xml", "net.w4a4.onnx", "report.json")
    report = dataclasses.replace(FULL, files=files)
    variables = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)}
    write_github_outputs(report, tmp_path / "out", variables)
    assert summary.read_text().startswith("before\n# net.w4a4.onnx")
    found = dict(line.split("=", 1) for line in output.read_text().splitlines())
    assert (found["verdict"], found["file-checks"]) == ("fail", "fail")
    assert found["accuracy"] == "inconclusive"
    assert found["reasons"] == "size<=0.1x; agreement>=0.97; drop<=1"
    assert found["agreement-images"] == "1000"
    assert found["student"] == str(tmp_path / "out" / "net.w4a4.onnx")
    assert found["junit"] == str(tmp_path / "out" / "junit.xml")
    assert (found["agreement"], found["size"], found["drop"]) == ("0.97", "0.17", "")


def test_without_a_runner_nothing_is_written(tmp_path: Path) -> None:
    write_github_outputs(FULL, None, {})
    assert list(tmp_path.iterdir()) == []
    assert dict(step_outputs(FULL, None))["report"] == ""


def test_a_value_of_several_lines_cannot_forge_another_output(tmp_path: Path) -> None:
    report = dataclasses.replace(
        FULL, student=m.ModelFacts("a\nverdict=pass"), warnings=("\ud800",)
    )
    write_github_outputs(report, None, {"GITHUB_OUTPUT": str(tmp_path / "output")})
    lines = (tmp_path / "output").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("student<<end-"))
    assert lines[start + 1 : start + 3] == ["a", "verdict=pass"]
    assert lines[start + 3] == lines[start].removeprefix("student<<")


def test_a_summary_that_is_too_long_is_cut_and_says_so(tmp_path: Path) -> None:
    report = dataclasses.replace(FULL, warnings=("é" * MAX_SUMMARY_BYTES,))
    write_github_outputs(report, None, {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")})
    data = (tmp_path / "summary").read_bytes()
    assert len(data) <= MAX_SUMMARY_BYTES
    assert "cut off" in data.decode()


def test_the_page_shows_rules_with_their_verdicts() -> None:
    page = format_markdown(FULL)
    assert "| size<=0.1x | 0.1700 times the float file | FAILS |" in page
    assert "| drop<=1 | labeled images are needed: give --eval-data | inconclusive |" in page
