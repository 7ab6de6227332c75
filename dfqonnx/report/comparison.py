"""Several students of one teacher: the result of `dfqonnx compare`, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dfqonnx.report.report import Report
from dfqonnx.report.sections import ModelFacts

SCHEMA = "dfqonnx.comparison/2"
FORMATS = {  # heading -> how its number is written
    "top-1": "{:.2f} %", "drop": "{:.2f}", "agreement": "{:.2f} %", "KL": "{:.4f}",
    "KiB": "{:,.0f}", "size": "{:.3f}", "speed": "{:.2f}x", "on integers": "{:.0f}",
    "in float": "{:.0f}",
}  # fmt: skip


@dataclass(frozen=True)
class ComparedStudent:
    """One student under a short unique name; `problem` says why there is no report."""

    name: str
    path: str
    report: Report | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class ComparisonTable:
    """Students that were measured on the same `images` (in words), in the order given."""

    teacher: ModelFacts
    images: str
    students: tuple[ComparedStudent, ...]
    preprocess: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the comparison as JSON; each student's part is a whole report."""
        students = [
            {
                "name": student.name,
                "path": student.path,
                "problem": student.problem or None,
                "report": None if student.report is None else json.loads(student.report.to_json()),
            }
            for student in self.students
        ]
        content = {"schema": SCHEMA, **asdict(self), "students": students}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One line of the table: texts by heading, empty where unknown, and numbers to sort by."""

    name: str
    bits: str
    cells: Mapping[str, str]
    numbers: Mapping[str, float]
    problem: str


def comparison_rows(table: ComparisonTable) -> tuple[tuple[ComparisonRow, ...], list[str]]:
    """Return the rows in the order given, and the headings that some row fills."""
    rows = tuple(_row(student) for student in table.students)
    return rows, [name for name in FORMATS if any(row.cells[name] for row in rows)]


def _row(student: ComparedStudent) -> ComparisonRow:
    report = student.report
    numbers = {} if report is None else _numbers(report)
    cells = {
        name: form.format(numbers[name]) if name in numbers else ""
        for name, form in FORMATS.items()
    }
    bits = ""
    if report is not None and report.bits is not None:
        bits = f"w{report.bits.weights}a{report.bits.activations}"
    if report is not None and report.drop is not None:
        points = report.drop.points
        cells["drop"] += f" ({points.low:.2f} to {points.high:.2f})"
    return ComparisonRow(
        name=student.name, bits=bits, cells=cells, numbers=numbers, problem=student.problem
    )


def _numbers(report: Report) -> dict[str, float]:
    agreement = report.agreement.evaluation or report.agreement.synthetic
    audit, size = report.audit, report.student.bytes
    known = {
        "top-1": None if report.student.top1 is None else report.student.top1.value,
        "drop": None if report.drop is None else report.drop.points.value,
        "agreement": None if agreement is None else 100 * agreement.value,
        "KL": report.agreement.kl,
        "KiB": None if size is None else size / 1024,
        "size": report.size_ratio,
        "speed": None if report.latency is None else report.latency.speedup,
        "on integers": None if audit is None else sum(audit.integer_nodes.values()),
        "in float": None if audit is None else len(audit.float_nodes),
    }
    return {name: float(value) for name, value in known.items() if value is not None}
