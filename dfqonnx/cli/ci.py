"""Reports a result to the build server, where there is one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfqonnx.report.report import Report


def report_to_ci(report: Report, folder: Path | None) -> None:
    """Write annotations to stderr, and summary and outputs to the files that the runner names.

    The result itself is written already, so a file that cannot be written gives only a warning.
    """
    from dfqonnx.report.ci import format_annotations, write_github_outputs

    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stderr.write("".join(f"{line}\n" for line in format_annotations(report)))
    try:
        write_github_outputs(report, folder, os.environ)
    except OSError as error:
        sys.stderr.write(
            f"Warning: {error.filename}: {error.strerror}; the build server gets no result\n"
        )
