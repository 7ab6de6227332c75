"""Several students of one teacher: the result of `dfqonnx compare`, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.report.measure_lines import main_measure
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
    """One row of the table, under a short unique name; `problem` says why there is no report."""

    name: str
    path: str
    report: Report | None
    problem: str = ""

    @property
    def bits(self) -> str:
        """The bit widths, `w4a8`; empty where they are unknown."""
        bits = None if self.report is None else self.report.bits
        return "" if bits is None else bits.label.lower()

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers of the columns that are known, to sort by."""
        known = {} if self.report is None else self.report.figures()
        measure = self.measure
        own = {} if measure is None or measure.student is None else {measure.name: measure.student}
        return own | {
            name: known[key] * factor for name, (key, factor, _) in COLUMNS.items() if key in known
        }

    @property
    def measure(self) -> TaskMeasure | None:
        """The measure of the task that speaks for the student; None for classifiers."""
        return None if self.report is None else main_measure(self.report.measures)

    @property
    def cells(self) -> dict[str, str]:
        """The text of each column that is known."""
        cells = {
            name: COLUMNS[name][2].format(number) if name in COLUMNS else f"{number:.4g}"
            for name, number in self.numbers.items()
        }
        if self.measure is not None and self.measure.name in cells:
            cells[self.measure.name] += self.measure.unit
        if self.report is not None and self.report.drop is not None:
            points = self.report.drop.points
            cells["drop"] += f" ({points.low:.2f} to {points.high:.2f})"
        return cells


@dataclass(frozen=True, kw_only=True)
class ComparisonTable:
    """Students that were measured on the same `images` (in words), in the order given."""

    teacher: ModelFacts
    images: str
    students: tuple[ComparedStudent, ...]
    preprocess: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def headings(self) -> list[str]:
        """The columns that are known of some student."""
        known = [name for student in self.students for name in student.cells]
        measures = [name for name in dict.fromkeys(known) if name not in COLUMNS]
        return [*measures, *(name for name in COLUMNS if name in known)]

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
