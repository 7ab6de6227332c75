"""Tell a build server what came out, where one is listening."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfqonnx.report.report import Report


def tell_ci(report: Report, folder: Path | None) -> None:
    """Write annotations to stderr, and summary and outputs where the runner wants them.

    A result is worth more than its announcement: what cannot be written is a warning.
    """
    from dfqonnx.report.ci import format_annotations, write_github_outputs

    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stderr.write("".join(f"{line}\n" for line in format_annotations(report)))
    try:
        write_github_outputs(report, folder, os.environ)
    except OSError as error:
        sys.stderr.write(f"Warning: {error.filename}: {error.strerror}: the build is not told\n")
