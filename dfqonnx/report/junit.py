"""The form of `junit.xml`, whatever its cases are.

It satisfies both the schema of Ant's JUnit task, which is strict about order, requires a host name
and forbids a time zone, and that of Jenkins.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from dfqonnx.foreign_text import xml_text


@dataclass(frozen=True, kw_only=True)
class SuiteFacts:
    """What stands on top of a suite."""

    name: str
    timestamp: str  # UTC to the second, without a zone
    tests: int
    failures: int
    skipped: int
    seconds: float
    properties: Mapping[str, str]


def start_suite(facts: SuiteFacts) -> ElementTree.Element:
    """Return a suite without cases."""
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": facts.name,
            "package": facts.name,
            "id": "0",
            "timestamp": facts.timestamp,
            "hostname": xml_text(platform.node() or "localhost"),
            "tests": str(facts.tests),
            "failures": str(facts.failures),
            "errors": "0",
            "skipped": str(facts.skipped),
            "time": f"{facts.seconds:.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in facts.properties.items():
        ElementTree.SubElement(properties, "property", name=xml_text(name), value=xml_text(value))
    return suite


def add_case(
    suite: ElementTree.Element, name: str, kind: str, *, seconds: float = 0.0
) -> ElementTree.Element:
    """Add a case of a `kind`, a name with dots, and return it; as it is, it has passed."""
    time = f"{seconds:.3f}" if seconds else "0"
    return ElementTree.SubElement(
        suite, "testcase", name=xml_text(name), classname=xml_text(kind), time=time
    )


def fail_case(case: ElementTree.Element, kind: str, message: str, text: str = "") -> None:
    """Say of a case that it failed; `text` is the long form of the message."""
    failure = ElementTree.SubElement(case, "failure", message=xml_text(message), type=kind)
    failure.text = xml_text(text or message)


def finish_suite(suite: ElementTree.Element, *, out: str, err: str) -> str:
    """Return the file's text; `out` and `err` are what a test would have printed."""
    ElementTree.SubElement(suite, "system-out").text = xml_text(out)
    ElementTree.SubElement(suite, "system-err").text = xml_text(err)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True).decode()
    return f"{text}\n"
