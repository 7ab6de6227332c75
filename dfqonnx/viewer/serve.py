"""Serves a teacher and a student side by side on this machine only, until told to stop."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dfqonnx.errors import EnvironmentProblem
from dfqonnx.report.html.page import fill
from dfqonnx.viewer.annotate import Notes, annotatable, annotate
from dfqonnx.viewer.netron_process import HOST
from dfqonnx.viewer.notes import student_notes, teacher_notes
from dfqonnx.viewer.pair import Shown

PATIENCE = 30.0  # seconds for a server to answer


@dataclass(frozen=True)
class Addresses:
    """Where to look.

    Attributes:
        page: both side by side; the student's own address where it is alone.
        student: the quantized file.
        teacher: the float file; None where it is not shown.
    """

    page: str
    student: str
    teacher: str | None


def require_netron() -> None:
    """Refuse to begin without Netron.

    Raises:
        EnvironmentProblem: with the command that installs it.
    """
    if importlib.util.find_spec("netron") is None:
        raise EnvironmentProblem("Netron is not installed: pip install 'dfqonnx[view]'")


@contextmanager
def served(shown: Shown) -> Iterator[Addresses]:
    """Serve what `shown` says while the context is open; afterwards nothing is left running.

    Yields:
        the addresses, which answer already.

    Raises:
        EnvironmentProblem: Netron is missing or does not start.
    """
    require_netron()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dfqonnx-view-")))
        report = shown.report
        files = {"student": (shown.student, {} if report is None else student_notes(report))}
        if shown.teacher is not None:
            files["teacher"] = shown.teacher, {} if report is None else teacher_notes(report)
        found = {}
        for role, (path, notes) in files.items():
            copy = _copy(path, notes, folder / role)
            found[role] = stack.enter_context(_netron(copy))
        if "teacher" not in found:
            yield Addresses(found["student"], found["student"], None)
            return
        names = [shown.teacher.name if shown.teacher else "", shown.student.name]
        page = fill(
            "view.html", sources=list(zip(names, [found["teacher"], found["student"]], strict=True))
        )
        address = stack.enter_context(_page(page))
        yield Addresses(address, found["student"], found["teacher"])


def _copy(path: Path, notes: Notes, folder: Path) -> Path:
    """Return an annotated copy with a harmless name, or the file itself when it is very large."""
    if not annotatable(path):
        return path
    folder.mkdir()
    copy = folder / (re.sub(r"[^\w.-]", "_", path.stem) + ".onnx")
    annotate(path, notes, copy)
    return copy


@contextmanager
def _netron(path: Path) -> Iterator[str]:
    port = _free_port()
    command = [sys.executable, "-m", "dfqonnx.viewer.netron_process", str(path), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _await(port, process, path)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(port: int, process: subprocess.Popen[bytes], path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise EnvironmentProblem(f"Netron did not start on {path} (port {port}); try `netron {path}`")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class _Page(BaseHTTPRequestHandler):
    """Answers every GET with one page."""

    def __init__(self, page: bytes, *rest: object) -> None:
        self.page = page
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _page(text: str) -> Iterator[str]:
    server = ThreadingHTTPServer((HOST, 0), partial(_Page, text.encode()))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
