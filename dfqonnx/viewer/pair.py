"""Chooses the two files that a view shows: a run's student and teacher, or one file alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfqonnx.errors import UsageError
from dfqonnx.report.files import REPORT, find_teacher, read_report
from dfqonnx.report.report import Report


@dataclass(frozen=True)
class ModelPair:
    """The quantized and the float file, and the report of the run; `note` says what is missing."""

    student: Path
    teacher: Path | None
    report: Report | None
    note: str


def choose_pair(target: Path, teacher: Path | None = None) -> ModelPair:
    """Return the files to show for the output folder of a run or an ONNX file.

    Raises:
        UsageError: `target` is neither.
    """
    report = None
    if target.is_dir():
        report = read_report(target)
        student = target / report.student.path
        if not student.resolve().is_relative_to(target.resolve()):
            raise UsageError(f"{target}: report.json names {report.student.path}, a file elsewhere")
        if not student.is_file():
            raise UsageError(f"{target}: report.json names {report.student.path}, which is missing")
    elif target.is_file():
        student, beside = target, target.parent / REPORT
        if beside.is_file():
            found = read_report(beside)
            report = found if Path(found.student.path).name == target.name else None
    else:
        raise UsageError(
            f"{target}: no such file or folder; give an ONNX file or the output folder of a run"
        )
    if teacher is None and report is not None:
        teacher = find_teacher(report, student.parent)
    notes = []
    if report is None:
        notes.append("There is no report beside the file, so its nodes carry no notes.")
    if teacher is None:
        notes.append("The float file is unknown; give it with --teacher.")
    return ModelPair(student, teacher, report, " ".join(notes))
