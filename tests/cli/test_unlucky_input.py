"""What happens to honest people: odd names, pipes, foreign reports, a request to terminate."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfqonnx.report.files import write_report
from tests.cli.conftest import Run
from tests.pages.conftest import full_report

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs names and pipes of Unix")


def assert_refused(run: Run, *words: str | Path, says: str) -> None:
    before = set(Path().iterdir())
    done = run(*words)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.count("Error: ") == 1
    assert says in done.err
    assert set(Path().iterdir()) == before


@POSIX
def test_a_pipe_is_no_model(dfqonnx: Run, small: Path) -> None:
    os.mkfifo("pipe.onnx")
    os.mkfifo("pipe.npz")
    for command in ("run", "inspect"):
        assert_refused(dfqonnx, command, "--model", "pipe.onnx", says="no plain file")
    assert_refused(dfqonnx, "audit", "pipe.onnx", says="no plain file")
    assert_refused(
        dfqonnx, "run", "--model", small, "--eval-data", "pipe.npz", says="no plain file"
    )
    assert_refused(dfqonnx, "run", "--model", small, "--images", "pipe.npz", says="no plain file")
    assert_refused(dfqonnx, "run", "--model", "/dev/zero", says="no plain file")


@POSIX
def test_names_that_cannot_be_written_are_refused_early(dfqonnx: Run, small: Path) -> None:
    odd = os.fsdecode(b"n\xfft.onnx")
    try:
        shutil.copy(small, odd)
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    assert_refused(dfqonnx, "run", "--model", odd, says="is not UTF-8")
    assert_refused(dfqonnx, "inspect", "--model", odd, says="\\udcff")
    assert_refused(dfqonnx, "run", "--model", small, "--out", odd, says="is not UTF-8")


def test_long_names_are_refused_early(dfqonnx: Run, small: Path) -> None:
    long = f"{'n' * 245}.onnx"
    shutil.copy(small, long)
    assert_refused(dfqonnx, "run", "--model", long, says="rename the model")
    assert dfqonnx("inspect", "--model", long).code == 0
    assert_refused(dfqonnx, "run", "--model", small, "--out", "o" * 300, says="cannot be a path")
    assert_refused(dfqonnx, "run", "--model", "n" * 5000, says="cannot be a path")


def test_the_longest_possible_name_can_be_quantized(dfqonnx: Run, small: Path) -> None:
    long = f"{'n' * (255 - len('.w4a4.onnx.data'))}.onnx"
    shutil.copy(small, long)
    Path("r.yaml").write_text("synthesis: {source: noise, images: 16}\ndistillation: {steps: 0}\n")
    done = dfqonnx("run", "--model", long, "--recipe", "r.yaml", "--out", "o", "--quiet")
    assert done.code in {0, 1}, done.err
    assert len(list(Path("o").glob("n*.onnx"))) == 1


REPORTS = {
    "empty": b"",
    "no JSON": b"{",
    "no text": b"\xff\xfe\x00",
    "of another program": b'{"schema": "other"}',
    "a list": b"[]",
    "nested": b"[" * 100_000,
    "a number of 5000 digits": b'{"schema": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_is_none_is_refused(dfqonnx: Run, name: str) -> None:
    Path("out").mkdir()
    Path("out/report.json").write_bytes(REPORTS[name])
    for words in (("report", "out"), ("compare", "out"), ("view", "out", "--no-browser")):
        assert_refused(dfqonnx, *words, says="report.json")


def _places(value: object, place: tuple = ()) -> list[tuple]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((*place, key))
        if isinstance(inner, (dict, list)):
            found += _places(inner, (*place, key))
    return found


def test_a_damaged_report_is_shown_or_refused(dfqonnx: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_report(full_report(), out)
    whole = json.loads((out / "report.json").read_text())
    rng = np.random.default_rng(23)
    odd = [None, -1, 10**30, float("nan"), float("inf"), "", "x" * 9, [], {}, True, [1e300], -0.5]
    places, codes = _places(whole), []
    for _ in range(40):
        damaged = json.loads(json.dumps(whole))
        for at in rng.integers(0, len(places), int(rng.integers(1, 4))):
            *way, last = places[int(at)]
            inner = damaged
            try:
                for key in way:
                    inner = inner[key]
                inner[last] = odd[int(rng.integers(len(odd)))]
            except (TypeError, KeyError, IndexError):
                continue  # an outer part was replaced before
        (out / "report.json").write_text(json.dumps(damaged))
        done = dfqonnx("report", out)
        codes.append(done.code)
        assert done.code in {0, 1, 2}, (done.err, damaged)
        assert "Traceback" not in done.err
    assert 2 in codes
    assert {0, 1} & set(codes)


def test_a_report_that_names_a_model_elsewhere_shows_nothing(dfqonnx: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.onnx").write_bytes(b"x")
    out = tmp_path / "out"
    out.mkdir()
    report = json.loads(full_report().to_json())
    for path in ("../secret.onnx", str(tmp_path / "secret.onnx")):
        report["student"]["path"] = path
        (out / "report.json").write_text(json.dumps(report))
        assert_refused(dfqonnx, "view", out, "--no-browser", says="a file elsewhere")


TERMINATED = r"""
import ctypes, os, signal, sys, time
from dfqonnx.cli.termination import exit_on_termination
exit_on_termination()
kind = sys.argv[1]
def ask():
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000): pass
class Dying:
    def __del__(self): ask()
cleaned = False
try:
    if kind == "callback":
        ctypes.CFUNCTYPE(None)(ask)()  # an exception in it is printed and forgotten
    elif kind == "del":
        Dying()
    elif kind == "swallowed":
        try: ask()
        except BaseException: pass
    else:
        ask()
    time.sleep(20)
finally:
    time.sleep(0.7)  # longer than it takes to ask again: cleaning up is not interrupted
    print("cleaned", flush=True)
"""


@POSIX
@pytest.mark.parametrize("kind", ["plain", "callback", "del", "swallowed"])
def test_a_request_to_terminate_is_never_lost(kind: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, kind],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "cleaned\n"), done.stderr
    assert time.monotonic() - began < 15


STARTED = r"""
import os, signal, sys
from importlib import abc
from dfqonnx.cli import start

class Interrupts(abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "dfqonnx.cli.failures":
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000): pass

handler = signal.SIG_IGN if sys.argv[1] == "ignored" else signal.default_int_handler
signal.signal(signal.SIGINT, handler)  # whatever the tests themselves inherited
sys.meta_path.insert(0, Interrupts())
sys.argv[1:] = ["--version"]
start.main()
"""


@POSIX
@pytest.mark.parametrize(("kind", "code"), [("default", -signal.SIGINT), ("ignored", 0)])
def test_an_interrupt_before_anything_began_is_no_traceback(kind: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STARTED, kind], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, "")


FINISHED = r"""
import atexit, os, signal
from dfqonnx.cli.app import main
def late():
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    for _ in range(1000): pass
atexit.register(late)
main(["--version"])
"""


@POSIX
def test_a_signal_after_everything_was_done_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", FINISHED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("dfqonnx ")


def test_bombs_among_data_are_told_as_such(
    dfqonnx: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfqonnx.data.foreign_files.MEMORY_SHARE", 1e-4)  # of this machine's
    x = np.zeros((4000, 64, 64, 3), np.uint8)
    np.savez_compressed("bomb.npz", x=x, y=np.zeros(len(x), np.int64))
    assert Path("bomb.npz").stat().st_size < x.nbytes / 500
    assert_refused(dfqonnx, "run", "--model", small, "--eval-data", "bomb.npz", says="unpacks to")
    subprocess.run(["tar", "czf", "bomb.tar.gz", "bomb.npz"], check=True)
    words = ("run", "--model", small, "--eval-data")
    monkeypatch.setattr("dfqonnx.data.foreign_files.MEMORY_SHARE", 1e-6)
    assert_refused(dfqonnx, *words, "bomb.tar.gz", says="unpacks to")
    monkeypatch.setattr("dfqonnx.data.tar_file.MAX_FILE_BYTES", 1000)
    assert_refused(dfqonnx, *words, "bomb.tar.gz", says="too many for an image")
    assert "smaller model" not in dfqonnx(*words, "bomb.tar.gz").err
    assert onnx.load(small).graph.node
