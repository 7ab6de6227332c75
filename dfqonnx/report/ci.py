"""What build servers read: GitHub's annotations, summary and outputs, and `junit.xml`.

    ::error title=TITLE::MESSAGE        a line of the log that becomes an annotation
    GITHUB_STEP_SUMMARY                 a file to which Markdown is appended, 1 MiB a step at most
    GITHUB_OUTPUT                       a file to which `name=value` lines are appended

Messages escape %, CR and LF as %25, %0D, %0A; titles also `:` and `,`. Other runners that set the
same variables (Forgejo, Gitea, act) are supported as well.

`junit.xml` (form in `junit`) lists the gates as test cases. A gate that fails is a failure; an
inconclusive one, or a check that only warns, is skipped with its reason, or a failure too with
`--strict`. Where no rule judges the accuracy, a skipped case says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from dfqonnx.foreign_text import workflow_data, workflow_property, xml_text
from dfqonnx.report.junit import SuiteFacts, add_case, fail_case, finish_suite, start_suite
from dfqonnx.report.measure_lines import describe_measure
from dfqonnx.report.report import Report
from dfqonnx.report.target_checks import target_lines
from dfqonnx.report.text import format_markdown, headline
from dfqonnx.report.verdict import Gate

MAX_SUMMARY_BYTES = 2**20
OUTPUT_FIGURES = ("drop", "agreement", "agreement-images", "size", "speedup", "float-nodes")
_CUT = (
    "\n\n(The rest is cut off, because the summary page has a size limit; report.md has it all.)\n"
)
_SUITE = "dfqonnx"


def format_annotations(report: Report) -> Iterator[str]:
    """Yield a line for every gate that does not hold, every warning about evidence, the result."""
    for gate in report.gates:
        if gate.holds is not True:
            kind = "error" if gate in report.failed_gates else "warning"
            what = "check" if gate.origin == "check" else "gate"
            outcome = "is inconclusive" if gate.holds is None else "fails"
            yield _annotation(kind, f"{what} {outcome}: {gate.rule}", gate.value)
    for warning in report.evidence:
        yield _annotation("warning", warning.name, f"{warning.found} {warning.advice}")
    title = f"dfqonnx {report.verdict}"
    yield _annotation("notice", title, f"{report.student.path}: {headline(report)}")


def write_github_outputs(report: Report, folder: Path | None, variables: Mapping[str, str]) -> None:
    """Append the summary and the outputs to the files that the environment `variables` name.

    Raises:
        OSError: one of these files cannot be written.
    """
    for variable, text in (
        ("GITHUB_STEP_SUMMARY", _cut_summary(format_markdown(report) + "\n")),
        ("GITHUB_OUTPUT", "".join(_assignment(k, v) for k, v in step_outputs(report, folder))),
    ):
        if path := variables.get(variable):
            with Path(path).open("a", encoding="utf-8", errors="replace") as file:
                file.write(text)


def step_outputs(report: Report, folder: Path | None) -> list[tuple[str, str]]:
    """Return (name, value) pairs that later steps may read; unknown values are empty."""
    student = Path(report.student.path)
    if folder is not None and student.name in report.files:
        student = folder / student
    written = {name: folder / name for name in report.files} if folder is not None else {}
    figures = report.figures()
    return [
        ("verdict", report.verdict),
        ("file-checks", report.file_checks.status),
        ("accuracy", report.accuracy.status),
        ("reasons", "; ".join((*report.file_checks.reasons, *report.accuracy.reasons))),
        ("student", str(student)),
        ("folder", "" if folder is None else str(folder)),
        ("report", str(written.get("report.json", ""))),
        ("junit", str(written.get("junit.xml", ""))),
        *((name, f"{figures[name]:.6g}" if name in figures else "") for name in OUTPUT_FIGURES),
    ]


def _annotation(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={workflow_property(title)}::{workflow_data(message)}"


def _cut_summary(page: str) -> str:
    data = page.encode(errors="replace")
    if len(data) <= MAX_SUMMARY_BYTES:
        return page
    return data[: MAX_SUMMARY_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def _assignment(name: str, value: str) -> str:
    """Return `name=value`; a value with line breaks stands between two random delimiters."""
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    delimiter = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def format_junit(report: Report, *, now: datetime | None = None) -> str:
    """Return the text of `junit.xml`."""
    failed = report.failed_gates
    cases = [*report.gates, *_accuracy_case(report)]
    skipped = [gate for gate in cases if gate.holds is not True and gate not in failed]
    suite = start_suite(
        SuiteFacts(
            name=_SUITE,
            timestamp=f"{(now or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%S}",
            tests=len(cases),
            failures=len(failed),
            skipped=len(skipped),
            seconds=report.seconds.get("total", 0.0),
            properties=_suite_properties(report),
        )
    )
    for gate in cases:
        _add_gate(suite, gate, is_failed=gate in failed)
    err = "\n".join((*report.warnings, *map(str, report.evidence)))
    return finish_suite(suite, out=headline(report), err=err)


def _accuracy_case(report: Report) -> Iterator[Gate]:
    """Yield a case that says so where no rule judges the accuracy."""
    if not any(gate.topic == "accuracy" for gate in report.gates):
        yield Gate(rule="accuracy", value=str(report.accuracy), holds=None, topic="accuracy")


def _add_gate(suite: ElementTree.Element, gate: Gate, *, is_failed: bool) -> None:
    case = add_case(suite, gate.rule, f"{_SUITE}.{gate.topic}")
    if is_failed:
        outcome = "fail" if gate.holds is False else "inconclusive"
        fail_case(case, outcome, gate.value, f"{gate.rule}: {outcome}: {gate.value}")
    elif gate.holds is not True:
        outcome = "warning" if gate.holds is False else "inconclusive"
        ElementTree.SubElement(case, "skipped", message=xml_text(f"{outcome}: {gate.value}"))


def _suite_properties(report: Report) -> dict[str, str]:
    properties = {
        "verdict": report.verdict,
        "file_checks": report.file_checks.status,
        "accuracy": report.accuracy.status,
        "teacher": report.teacher.path,
        "teacher.sha256": report.teacher.sha256,
        "student": report.student.path,
        "student.sha256": report.student.sha256,
        "recipe": report.recipe,
        "seed": report.seed,
        **({} if report.proof is None else dict(target_lines(report.proof))),
        **{f"{each.name}, {each.inputs}": describe_measure(each) for each in report.measures},
    }
    return {name: str(value) for name, value in properties.items() if value not in {None, ""}}
