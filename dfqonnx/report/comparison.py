"""Several students of one teacher: the result of `dfqonnx compare`, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dfqonnx.report.report import Report
from dfqonnx.report.sections import ModelFacts

SCHEMA = "dfqonnx.comparison/1"


@dataclass(frozen=True)
class ComparedStudent:
    """One student.

    Attributes:
        name: short, different from all others.
        path: of the file.
        report: what was measured; None where it could not be.
        problem: why not; empty otherwise.
    """

    name: str
    path: str
    report: Report | None
    problem: str = ""


@dataclass(frozen=True)
class ComparisonTable:
    """All students on the same images, in the order given.

    Attributes:
        teacher: the float file.
        images: what they were compared on, in words.
        entries: one per student.
        preprocess: the input specification.
        environment: versions, processor.
        warnings: what the user should know.
    """

    teacher: ModelFacts
    images: str
    entries: tuple[ComparedStudent, ...]
    preprocess: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the comparison as JSON; each student's part is a whole report."""
        entries = [
            {
                "name": entry.name,
                "path": entry.path,
                "problem": entry.problem or None,
                "report": None if entry.report is None else json.loads(entry.report.to_json()),
            }
            for entry in self.entries
        ]
        content = {
            "schema": SCHEMA,
            "teacher": asdict(self.teacher),
            "images": self.images,
            "students": entries,
            "preprocess": dict(self.preprocess),
            "environment": dict(self.environment),
            "warnings": list(self.warnings),
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True)
class ComparisonRow:
    """One line of the table, in words; empty is unknown.

    Attributes:
        name: of the student.
        bits: by its own metadata.
        cells: heading -> text, the same headings for all.
        keys: heading -> number to sort by.
        problem: why it was not measured.
    """

    name: str
    bits: str
    cells: Mapping[str, str]
    keys: Mapping[str, float]
    problem: str


HEADINGS = ("top-1", "drop", "agreement", "KL", "KiB", "size", "speed", "on integers", "in float")


def standings(league: ComparisonTable) -> tuple[ComparisonRow, ...]:
    """Return the table's lines in the order given."""
    return tuple(_standing(entry) for entry in league.entries)


def _standing(entry: ComparedStudent) -> ComparisonRow:
    report = entry.report
    if report is None:
        return ComparisonRow(entry.name, "", dict.fromkeys(HEADINGS, ""), {}, entry.problem)
    bits = "" if report.bits is None else f"w{report.bits.weights}a{report.bits.activations}"
    keys = {name: value for name, value in _figures(report).items() if value is not None}
    shown = {
        "top-1": "{:.2f} %",
        "drop": "{:.2f}",
        "agreement": "{:.2f} %",
        "KL": "{:.4f}",
        "KiB": "{:,.0f}",
        "size": "{:.3f}",
        "speed": "{:.2f}x",
        "on integers": "{:.0f}",
        "in float": "{:.0f}",
    }
    cells = {name: shown[name].format(keys[name]) if name in keys else "" for name in HEADINGS}
    if report.drop is not None:
        points = report.drop.points
        cells["drop"] += f" ({points.low:.2f} to {points.high:.2f})"
    return ComparisonRow(entry.name, bits, cells, keys, "")


def _figures(report: Report) -> dict[str, float | None]:
    agreement = report.agreement.eval or report.agreement.synthetic
    audit, latency = report.audit, report.latency
    return {
        "top-1": None if report.student.top1 is None else report.student.top1.value,
        "drop": None if report.drop is None else report.drop.points.value,
        "agreement": None if agreement is None else 100 * agreement.value,
        "KL": report.agreement.kl,
        "KiB": None if report.student.bytes is None else report.student.bytes / 1024,
        "size": report.size_ratio,
        "speed": None if latency is None else latency.speedup,
        "on integers": None if audit is None else float(sum(audit.integer_nodes.values())),
        "in float": None if audit is None else float(len(audit.float_nodes)),
    }
