"""`junit.xml`: the gates as test cases, for build servers.

Written so that both the schema of Ant's JUnit task (strict: order, time stamps without zone, a
hostname) and the looser one of Jenkins accept it. A gate that fails is a failure; one that is open
is skipped, with its reason, or a failure too when open gates are to fail.
"""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from xml.etree import ElementTree

from dfqonnx.report.gate import Gate
from dfqonnx.report.gates import broken
from dfqonnx.report.lines import headline
from dfqonnx.report.model import Report

SUITE = "dfqonnx"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def junit(report: Report, *, now: datetime | None = None) -> str:
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
