"""Serves a teacher and a student side by side, on this machine only."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dfqonnx.errors import EnvironmentProblem
from dfqonnx.report.html.page import render_template
from dfqonnx.report.report import Report
from dfqonnx.viewer.annotate import annotate
from dfqonnx.viewer.local_server import HOST, Answer, serve_locally
from dfqonnx.viewer.netron_server import serve_netron
from dfqonnx.viewer.notes import (
    Notes,
    student_badges,
    student_notes,
    teacher_badges,
    teacher_notes,
)
from dfqonnx.viewer.pair import ModelPair

PAGE_POLICY = f"default-src 'none'; style-src 'unsafe-inline'; frame-src http://{HOST}:*"
NOTES: dict[str, Callable[[Report], tuple[Notes, Notes]]] = {
    "student": lambda report: (student_notes(report), student_badges(report)),
    "teacher": lambda report: (teacher_notes(report), teacher_badges(report)),
}
MAX_COPIED_BYTES = 2**30  # larger models are shown without notes


@dataclass(frozen=True)
class ViewAddresses:
    """Addresses of the page with both models (the student's own without a teacher) and of each."""

    page: str
    student: str
    teacher: str | None


def require_netron() -> None:
    """Check that Netron is installed.

    Raises:
        EnvironmentProblem: it is not; the message has the command that installs it.
    """
    if importlib.util.find_spec("netron") is None:
        raise EnvironmentProblem("Netron is not installed: pip install netron")


@contextmanager
def serve_pair(pair: ModelPair) -> Iterator[ViewAddresses]:
    """Serve the files while the context is open; afterwards nothing is left running.

    The addresses respond already.

    Raises:
        EnvironmentProblem: Netron is missing.
    """
    require_netron()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dfqonnx-view-")))
        report = pair.report
        files = {"student": pair.student}
        if pair.teacher is not None:
            files["teacher"] = pair.teacher
        found = {}
        for role, path in files.items():
            notes = ({}, {}) if report is None else NOTES[role](report)
            copy = _annotated_copy(path, notes, folder / role)
            found[role] = stack.enter_context(serve_netron(copy, path.name))
        if "teacher" not in found:
            yield ViewAddresses(found["student"], found["student"], None)
            return
        sources = [(files[role].name, found[role]) for role in ("teacher", "student")]
        page = render_template("view.html", sources=sources).encode()
        address = stack.enter_context(serve_locally(partial(_answer_page, page), PAGE_POLICY))
        yield ViewAddresses(address, found["student"], found["teacher"])


def _annotated_copy(path: Path, notes: tuple[Notes, Notes], folder: Path) -> Path:
    """Return a copy with notes and badges, or the file itself when it is very large."""
    if path.stat().st_size > MAX_COPIED_BYTES:
        return path
    folder.mkdir()
    copy = folder / "model.onnx"
    annotate(path, notes[0], copy, badges=notes[1])
    return copy


def _answer_page(page: bytes, asked: str) -> Answer | None:
    return Answer("text/html; charset=utf-8", page) if asked == "/" else None
