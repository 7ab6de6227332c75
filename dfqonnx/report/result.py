"""What `dfqonnx.quantize` returns: the report, and where the files lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dfqonnx.report.files import PAGE, read_report
from dfqonnx.report.html.page import render_template
from dfqonnx.report.report import Report
from dfqonnx.report.text import describe_figures, report_lines
from dfqonnx.report.verdict import AccuracyStatement, FileChecks, Gate, Verdict

LEFT_OUT = {  # lines of the report that a notebook's card does without
    *("synthetic images", "divergence from training data", "recipe", "seconds", "peak memory"),
    *("integer nodes", "file against trained student", "optimized session against file"),
    *("same class in both",),
}


@dataclass(frozen=True, repr=False)
class Result:
    """A finished run: plain values and paths.

    Attributes:
        folder: the output folder.
        report: everything that was measured, as in `report.json`.
    """

    folder: Path
    report: Report

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Return the result of an earlier run from its output folder.

        Raises:
            UsageError: the folder has no report that this version can read.
        """
        return cls(Path(folder), read_report(Path(folder)))

    def __repr__(self) -> str:
        """Return folder, verdict and figures in a line."""
        return f"<Result {str(self.folder)!r}: {self.verdict}; {describe_figures(self.report)}>"

    def _repr_html_(self) -> str:
        """Return a card for notebooks: verdict, figures, and a link to the page of the run."""
        page = self.folder / PAGE
        lines = [line for line in report_lines(self.report) if line[0] not in LEFT_OUT]
        return render_template(
            "card.html",
            result=self,
            figures=describe_figures(self.report),
            lines=lines,
            page=page.as_posix() if page.is_file() else None,
        )

    @property
    def student(self) -> Path:
        """The quantized ONNX file."""
        return self.folder / self.report.student.path

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was written."""
        return tuple(self.folder / name for name in self.report.files)

    @property
    def verdict(self) -> Verdict:
        """The worst of both statements: pass, warning, not judged, inconclusive or fail."""
        return self.report.verdict

    @property
    def file_checks(self) -> FileChecks:
        """What holds of the file, whatever it is used for."""
        return self.report.file_checks

    @property
    def accuracy(self) -> AccuracyStatement:
        """Whether rules judged the accuracy, and how."""
        return self.report.accuracy

    @property
    def passed(self) -> bool:
        """Whether the command line would end with 0."""
        return self.report.exit_code == 0

    @property
    def failures(self) -> tuple[Gate, ...]:
        """The gates because of which `passed` is false."""
        return self.report.failed_gates

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes, as dictionaries, lists, strings and numbers."""
        return {
            "folder": str(self.folder),
            "student": str(self.student),
            "files": [str(path) for path in self.files],
            "report": json.loads(self.report.to_json()),
        }

    def to_json(self) -> str:
        """Return paths and report as JSON; unknown values are null."""
        return json.dumps(self.to_dict(), indent=2)
