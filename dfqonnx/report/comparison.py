"""Several students of one teacher: the result of `dfqonnx compare`, and its JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.report.measure_lines import format_ends, main_measure
from dfqonnx.report.report import Report
from dfqonnx.report.sections import ModelFacts

SCHEMA = "dfqonnx.comparison/2"
COLUMNS = {  # heading -> the figure of a report, its factor, and how it is written
    "top-1": ("top-1", 1, "{:.2f} %"),
    "drop": ("drop", 1, "{:.2f}"),
    "agreement": ("agreement", 100, "{:.2f} %"),
    "KL": ("kl", 1, "{:.4f}"),
    "SQNR": ("sqnr-db", 1, "{:.1f} dB"),
    "KiB": ("bytes", 1 / 1024, "{:,.0f}"),
    "size": ("size", 1, "{:.3f}"),
    "speed": ("speedup", 1, "{:.2f}x"),
    "on integers": ("integer-nodes", 1, "{:.0f}"),
    "in float": ("float-nodes", 1, "{:.0f}"),
}
MEANINGS = {
    "top-1": "Top-1 is the share of labeled images that get the right class.",
    "drop": "The drop is in points of top-1, image by image, with its 95 % interval.",
    "agreement": "Agreement is the share of images that get the float model's class.",
    "KL": "KL is the divergence from the float model's class probabilities, in nats.",
    "SQNR": "SQNR is what varies with the input over the noise, of the worst output.",
    "size": "Size is relative to the float file.",
    "speed": "Speed is relative to the float file; the two files were timed in turns.",
}
REFERENCE = {"drop": 0.0, "agreement": 100.0, "KL": 0.0, "size": 1.0, "speed": 1.0}
CHARTED = ("top-1", "agreement", "SQNR")  # in this order, where no student has a task's measure


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
        if self.report is not None and measure is None and "agreement" not in known:
            noise = self.report.agreement.sqnr_db
            known |= {} if noise is None else {"sqnr-db": noise}
        own = {} if measure is None or measure.student is None else {measure.name: measure.student}
        own |= {
            name: known[key] * factor for name, (key, factor, _) in COLUMNS.items() if key in known
        }
        return {name: number for name, number in own.items() if math.isfinite(number)}

    @property
    def measure(self) -> TaskMeasure | None:
        """The measure of the task that speaks for the student; None for classifiers."""
        return None if self.report is None else main_measure(self.report.measures)

    @property
    def cells(self) -> dict[str, str]:
        """The text of each column that is known."""
        unit = "" if self.measure is None else self.measure.unit
        cells = {name: _format(name, number, unit) for name, number in self.numbers.items()}
        if self.report is not None and self.report.drop is not None:
            points = self.report.drop.points
            cells["drop"] += f" ({points.low:.2f} to {points.high:.2f})"
        if self.measure is not None and self.measure.interval is not None:
            cells[self.measure.name] += f" ({format_ends(self.measure, self.measure.interval)})"
        return cells


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One line of the table; its label is `F` for the float model, or a student's number."""

    label: str
    name: str
    bits: str
    numbers: Mapping[str, float]
    cells: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, repr=False)
class ComparisonTable:
    """Students that were measured on the same `images` (in words), in the order given."""

    teacher: ModelFacts
    images: str
    students: tuple[ComparedStudent, ...]
    preprocess: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return what was compared in a line; `to_json` has everything."""
        names = ", ".join(student.name for student in self.students)
        return f"<ComparisonTable {names} against {self.teacher.path}, on {self.images}>"

    @property
    def headings(self) -> list[str]:
        """The columns that are known of some student."""
        known = [name for student in self.students for name in student.cells]
        measures = [name for name in dict.fromkeys(known) if name not in COLUMNS]
        return [*measures, *(name for name in COLUMNS if name in known)]

    @property
    def measures(self) -> dict[str, TaskMeasure]:
        """The measures of a task that have a column; with the float model's number if known."""
        found: dict[str, TaskMeasure] = {}
        for measure in (student.measure for student in self.students):
            if measure is not None and measure.name in self.headings:
                known = found.get(measure.name)
                if known is None or known.teacher is None:
                    found[measure.name] = measure
        return found

    @property
    def rows(self) -> tuple[ComparisonRow, ...]:
        """The float model, and every student that was measured."""
        students = (
            ComparisonRow(label=str(k), name=s.name, bits=s.bits, numbers=s.numbers, cells=s.cells)
            for k, s in enumerate(self.students, 1)
            if not s.problem
        )
        return self._float_row(), *students

    def _float_row(self) -> ComparisonRow:
        """Return what is measured of the float model, and what holds of it by definition."""
        measures = self.measures
        known: dict[str, float | None] = {name: m.teacher for name, m in measures.items()}
        known |= REFERENCE
        known["top-1"] = None if self.teacher.top1 is None else self.teacher.top1.value
        known["KiB"] = None if self.teacher.bytes is None else self.teacher.bytes / 1024
        numbers = {
            name: number
            for name in self.headings
            if (number := known.get(name)) is not None and math.isfinite(number)
        }
        units = {name: measure.unit for name, measure in measures.items()}
        cells = {
            name: _format(name, number, units.get(name, "")) for name, number in numbers.items()
        }
        return ComparisonRow(
            label="F", name="float model", bits="float", numbers=numbers, cells=cells
        )

    @property
    def charted(self) -> str | None:
        """The column that is drawn over the file size; None where no student has one."""
        counts = {name: sum(name in s.numbers for s in self.students) for name in self.headings}
        measures = [name for name in counts if name not in COLUMNS]
        if measures:
            return max(measures, key=lambda name: counts[name])
        return next((name for name in CHARTED if counts.get(name)), None)

    def describe_columns(self) -> Iterator[str]:
        """Yield a sentence on each column whose heading does not say it all."""
        for name, measure in self.measures.items():
            lower = "" if measure.higher_is_better else " (lower is better)"
            yield f"{name}{lower}: {measure.meaning.rstrip('.')}."
        yield from (MEANINGS[name] for name in self.headings if name in MEANINGS)

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
        rows = [
            {"label": row.label, "name": row.name, "bits": row.bits, "numbers": dict(row.numbers)}
            for row in self.rows
        ]
        content = {"schema": SCHEMA, **asdict(self), "rows": rows, "students": students}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _format(name: str, number: float, unit: str) -> str:
    """Return the text of a column's number; `unit` is that of a task's measure."""
    return COLUMNS[name][2].format(number) if name in COLUMNS else f"{number:.4g}{unit}"
