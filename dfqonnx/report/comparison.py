"""Several students of one teacher: the result of `dfqonnx compare`, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dfqonnx.report.report import Report
from dfqonnx.report.sections import ModelFacts

SCHEMA = "dfqonnx.comparison/2"
COLUMNS = {  # heading -> the figure of a report, its factor, and how it is written
    "top-1": ("top-1", 1, "{:.2f} %"),
    "drop": ("drop", 1, "{:.2f}"),
    "agreement": ("agreement", 100, "{:.2f} %"),
    "KL": ("kl", 1, "{:.4f}"),
    "KiB": ("bytes", 1 / 1024, "{:,.0f}"),
    "size": ("size", 1, "{:.3f}"),
    "speed": ("speedup", 1, "{:.2f}x"),
    "on integers": ("integer-nodes", 1, "{:.0f}"),
    "in float": ("float-nodes", 1, "{:.0f}"),
}


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
    return rows, [name for name in COLUMNS if any(row.cells[name] for row in rows)]


def _row(student: ComparedStudent) -> ComparisonRow:
    report = student.report
    figures = {} if report is None else report.figures()
    numbers = {
        name: figures[key] * factor for name, (key, factor, _) in COLUMNS.items() if key in figures
    }
    cells = {
        name: form.format(numbers[name]) if name in numbers else ""
        for name, (_, _, form) in COLUMNS.items()
    }
    if report is not None and report.drop is not None:
        points = report.drop.points
        cells["drop"] += f" ({points.low:.2f} to {points.high:.2f})"
    bits = "" if report is None or report.bits is None else report.bits.label.lower()
    return ComparisonRow(
        name=student.name, bits=bits, cells=cells, numbers=numbers, problem=student.problem
    )
