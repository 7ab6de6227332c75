"""`report.html` written once more from an output folder alone: report.json and its images."""

from __future__ import annotations

from pathlib import Path

from dfqonnx.draft import draft
from dfqonnx.errors import UsageError
from dfqonnx.report.html.page import render
from dfqonnx.report.html.pictures import load_pixels
from dfqonnx.report.model import Report
from dfqonnx.report.read import read_report

PAGE = "report.html"


def rewrite(folder: Path) -> tuple[Report, Path]:
    """Write the page of a finished run; nothing else in the folder changes.

    Returns:
        the report, and where its page lies.

    Raises:
        UsageError: no folder of a run.
        EnvironmentProblem: it cannot be written.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the output folder of `dfqonnx run`")
    report = read_report(folder)
    text = render(report, load_pixels(folder))
    page = folder / PAGE
    with draft(page) as place:
        place.write_text(text, encoding="utf-8")
    return report, page
