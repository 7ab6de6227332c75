"""What GitHub's runners read from a step: annotations, the summary page, outputs.

    ::error title=TITLE::MESSAGE        a line of the log that becomes an annotation
    GITHUB_STEP_SUMMARY                 file that Markdown is appended to, 1 MiB a step at most
    GITHUB_OUTPUT                       file that `name=value` lines are appended to

Messages escape %, CR and LF as %25, %0D, %0A; titles also `:` and `,`. Other runners that set the
same variables (Forgejo, Gitea, act) are served alike.

`junit.xml`: the gates as test cases, for build servers.

Written so that both the schema of Ant's JUnit task (strict: order, time stamps without zone, a
hostname) and the looser one of Jenkins accept it. A gate that fails is a failure; one that is open
is skipped, with its reason, or a failure too when open gates are to fail.
"""

from __future__ import annotations

import platform
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from dfqonnx.report.gate_verdicts import broken
from dfqonnx.report.report import Report
from dfqonnx.report.sections import Gate
from dfqonnx.report.text import headline, markdown

SUMMARY_BYTES = 2**20
_CUT = "\n\n(cut here: the summary page holds no more; report.md is whole)\n"


def format_annotations(report: Report) -> Iterator[str]:
    """Yield a line for every gate that fails or is open, and one that sums up."""
    failing = broken(report)
    for gate in report.gates:
        if gate.holds is not True:
            kind = "error" if gate in failing else "warning"
            word = "inconclusive" if gate.holds is None else "fails"
            yield _line(kind, f"gate {word}: {gate.rule}", gate.value)
    yield _line("notice", f"dfqonnx {report.verdict}", f"{report.student.path}: {headline(report)}")


def write_github_outputs(report: Report, folder: Path | None, variables: Mapping[str, str]) -> None:
    """Append the summary and the outputs to the files that `variables` name.

    Args:
        report: what came out.
        folder: that the report was written to; None when it was not.
        variables: the environment.

    Raises:
        OSError: a file that is named cannot be written.
    """
    if path := variables.get("GITHUB_STEP_SUMMARY"):
        _append(path, _short(markdown(report) + "\n"))
    if path := variables.get("GITHUB_OUTPUT"):
        _append(path, "".join(_assignment(k, v) for k, v in outputs(report, folder)))


def outputs(report: Report, folder: Path | None) -> list[tuple[str, str]]:
    """Return what later steps may read, as (name, value); what is unknown is empty."""
    student = Path(report.student.path)
    if folder is not None and student.name in report.files:
        student = folder / student
    written = {name: folder / name for name in report.files} if folder is not None else {}
    agreement = report.agreement.eval or report.agreement.synthetic
    figures = {
        "drop": None if report.drop is None else report.drop.points.value,
        "agreement": None if agreement is None else agreement.value,
        "size": report.size_ratio,
        "speedup": None if report.latency is None else report.latency.speedup,
        "float-nodes": None if report.audit is None else len(report.audit.float_nodes),
    }
    return [
        ("verdict", report.verdict),
        ("student", str(student)),
        ("folder", "" if folder is None else str(folder)),
        ("report", str(written.get("report.json", ""))),
        ("junit", str(written.get("junit.xml", ""))),
        *((name, "" if value is None else f"{value:.6g}") for name, value in figures.items()),
    ]


def _line(kind: str, title: str, message: str) -> str:
    name = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={name}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _short(page: str) -> str:
    data = page.encode(errors="replace")
    if len(data) <= SUMMARY_BYTES:
        return page
    return data[: SUMMARY_BYTES - len(_CUT)].decode(errors="ignore") + _CUT


def _assignment(name: str, value: str) -> str:
    """A value with a line break stands between two lines that it cannot contain."""
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}\n"
    fence = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{fence}\n{value}\n{fence}\n"


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8", errors="replace") as file:
        file.write(text)


SUITE = "dfqonnx"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def format_junit(report: Report, *, now: datetime | None = None) -> str:
    """Return the text of `junit.xml`.

    Args:
        report: with its gates judged.
        now: for the time stamp.
    """
    failing = broken(report)
    idle = [gate for gate in report.gates if gate.holds is None and gate not in failing]
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": SUITE,
            "package": SUITE,
            "id": "0",
            "timestamp": f"{(now or datetime.now(UTC)).astimezone(UTC):%Y-%m-%dT%H:%M:%S}",
            "hostname": _clean(platform.node() or "localhost"),
            "tests": str(len(report.gates)),
            "failures": str(len(failing)),
            "errors": "0",
            "skipped": str(len(idle)),
            "time": f"{report.seconds.get('total', 0.0):.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _facts(report):
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    for gate in report.gates:
        _case(suite, gate, failing=gate in failing)
    ElementTree.SubElement(suite, "system-out").text = _clean(headline(report))
    ElementTree.SubElement(suite, "system-err").text = _clean("\n".join(report.warnings))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode()
    return f"{text}\n"


def _case(suite: ElementTree.Element, gate: Gate, *, failing: bool) -> None:
    kind = "rules" if gate.asked else "promises"
    case = ElementTree.SubElement(
        suite, "testcase", name=_clean(gate.rule), classname=f"{SUITE}.{kind}", time="0"
    )
    if failing:
        kind = "inconclusive" if gate.holds is None else "fail"
        ElementTree.SubElement(
            case, "failure", message=_clean(gate.value), type=kind
        ).text = _clean(f"{gate.rule}: {kind}: {gate.value}")
    elif gate.holds is None:
        ElementTree.SubElement(case, "skipped", message=_clean(f"inconclusive: {gate.value}"))


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [
        ("verdict", report.verdict),
        ("teacher", report.teacher.path),
        ("teacher.sha256", report.teacher.sha256 or ""),
        ("student", report.student.path),
        ("student.sha256", report.student.sha256 or ""),
        ("recipe", report.recipe or ""),
        ("seed", "" if report.seed is None else str(report.seed)),
    ]
    return [(name, value) for name, value in facts if value]


def _clean(text: str) -> str:
    """Names in a model may hold what XML cannot."""
    return _FORBIDDEN.sub("?", text)
