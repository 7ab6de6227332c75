"""`dfqonnx view`: which files, what their nodes say, and that nothing is left running."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import onnx
import pytest

from dfqonnx.cli.app import command_line
from dfqonnx.errors import UsageError
from dfqonnx.report.files import write_report
from dfqonnx.viewer import serve as session
from dfqonnx.viewer.annotate import annotate
from dfqonnx.viewer.notes import student_notes
from dfqonnx.viewer.pair import choose_pair
from tests.cli.networks import SMALL, WEIGHTS, model_from
from tests.pages.conftest import EVIL, full_report

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A run's folder with both files; they are the same small network."""
    model = model_from(SMALL, **WEIGHTS)
    model.graph.node[0].name = "conv2"
    onnx.save(model, tmp_path / "net.onnx")
    onnx.save(model, tmp_path / "net.w4a4.onnx")
    write_report(full_report(), tmp_path)
    return tmp_path


def test_a_folder_leads_to_student_teacher_and_report(pair: Path) -> None:
    shown = choose_pair(pair)
    assert (shown.student, shown.teacher) == (pair / "net.w4a4.onnx", pair / "net.onnx")
    assert shown.report is not None
    assert shown.note == ""


def test_a_file_finds_the_report_beside_it_only_if_it_is_about_that_file(pair: Path) -> None:
    assert choose_pair(pair / "net.w4a4.onnx").report is not None
    alone = choose_pair(pair / "net.onnx")
    assert (alone.report, alone.teacher) == (None, None)
    assert "--teacher" in alone.note


def test_a_target_that_is_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        choose_pair(tmp_path / "nothing")


def test_nodes_of_the_copy_carry_bits_and_noise_and_the_file_itself_stays(pair: Path) -> None:
    before = (pair / "net.w4a4.onnx").read_bytes()
    notes = student_notes(full_report())
    assert notes[f"Q {EVIL}"]["dfqonnx.bits"] == "4"
    assert notes[EVIL]["dfqonnx.float_because"].startswith("because")
    assert annotate(pair / "net.w4a4.onnx", notes, pair / "copy.onnx") == 1
    copy = onnx.load(pair / "copy.onnx")
    onnx.checker.check_model(copy)
    known = {entry.key: entry.value for entry in copy.graph.node[0].metadata_props}
    assert known["dfqonnx.bits"] == "weights 4, input 8"
    assert known["dfqonnx.sqnr_in_network"] == "19.0 dB"
    assert (pair / "net.w4a4.onnx").read_bytes() == before


def test_without_netron_the_command_says_how_to_install_it(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session.importlib.util, "find_spec", lambda name: None)
    assert command_line(["view", str(pair)]) == 4
    assert "pip install netron" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("netron") is None, reason="netron is not installed")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_both_are_served_on_this_machine_only_until_the_command_is_stopped(
    pair: Path, how: signal.Signals
) -> None:
    command = [sys.executable, "-m", "dfqonnx", "view", str(pair), "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        addresses = [word for line in lines for word in line.split() if word.startswith("http:")]
        assert len(addresses) == 3
        assert all(address.startswith("http://127.0.0.1:") for address in addresses)
        for address in addresses[:2]:
            with urllib.request.urlopen(address) as answer:
                assert "connect-src 'self'" in answer.headers["Content-Security-Policy"]
        with urllib.request.urlopen(addresses[2]) as answer:
            page = answer.read().decode()
        assert all(address in page for address in addresses[:2])
        process.send_signal(how)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == (0 if how is signal.SIGINT else 143)
    assert "Traceback" not in rest + errors
    for address in addresses:
        port = int(address.rpartition(":")[2])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=1)
