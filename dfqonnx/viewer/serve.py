"""Serves a teacher and a student side by side, on this machine only."""

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
from dfqonnx.report.html.page import render_template
from dfqonnx.viewer.annotate import annotate
from dfqonnx.viewer.netron_process import HOST
from dfqonnx.viewer.notes import Notes, student_notes, teacher_notes
from dfqonnx.viewer.pair import ModelPair

START_TIMEOUT = 30.0  # seconds
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
        raise EnvironmentProblem("Netron is not installed: pip install 'dfqonnx[view]'")


@contextmanager
def serve_pair(pair: ModelPair) -> Iterator[ViewAddresses]:
    """Serve the files while the context is open; afterwards nothing is left running.

    The addresses respond already.

    Raises:
        EnvironmentProblem: Netron is missing or does not start.
    """
    require_netron()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dfqonnx-view-")))
        report = pair.report
        files = {"student": (pair.student, {} if report is None else student_notes(report))}
        if pair.teacher is not None:
            files["teacher"] = pair.teacher, {} if report is None else teacher_notes(report)
        found = {}
        for role, (path, notes) in files.items():
            copy = _annotated_copy(path, notes, folder / role)
            found[role] = stack.enter_context(_serve_netron(copy))
        if "teacher" not in found:
            yield ViewAddresses(found["student"], found["student"], None)
            return
        sources = [(files[role][0].name, found[role]) for role in ("teacher", "student")]
        address = stack.enter_context(_serve_page(render_template("view.html", sources=sources)))
        yield ViewAddresses(address, found["student"], found["teacher"])


def _annotated_copy(path: Path, notes: Notes, folder: Path) -> Path:
    """Return an annotated copy with a safe name, or the file itself when it is very large."""
    if path.stat().st_size > MAX_COPIED_BYTES:
        return path
    folder.mkdir()
    copy = folder / (re.sub(r"[^\w.-]", "_", path.stem) + ".onnx")
    annotate(path, notes, copy)
    return copy


@contextmanager
def _serve_netron(path: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])  # a free one
    command = [sys.executable, "-m", "dfqonnx.viewer.netron_process", str(path), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, process, path)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise EnvironmentProblem(f"Netron did not start on {path} (port {port}); try `netron {path}`")


class _PageHandler(BaseHTTPRequestHandler):
    """Answers every GET request with one page."""

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
        """Log nothing."""


@contextmanager
def _serve_page(text: str) -> Iterator[str]:
    server = ThreadingHTTPServer((HOST, 0), partial(_PageHandler, text.encode()))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
