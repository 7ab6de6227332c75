"""Writers that are killed: the old result or the new one, whole, and nothing is left for good.

The script forks one child for every line of the code that puts a result in place; the child kills
itself when it comes there, and the parent looks at what a reader would find.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dfqonnx.core import staging
from dfqonnx.core.atomic_write import atomic_folder, check_out

ROOT = Path(__file__).parents[2]
KILLS = r"""
import json, os, shutil, signal, sys, threading
from pathlib import Path
from dfqonnx.core import atomic_write, replace_folder, staging
from dfqonnx.core.atomic_write import atomic_folder, check_out
root, how = Path(sys.argv[1]), sys.argv[2]
CODE = {m.__file__ for m in (atomic_write, replace_folder, staging)}
if how == "inside":
    replace_folder.can_exchange = atomic_write.can_exchange = lambda out: False
if how == "refused":  # the file system cannot exchange
    replace_folder._rename_exchange = lambda one, other: False

def fill(folder, mark):
    names = [f"{mark}.onnx", "both.bin", f"synthetic/{mark}.npz", "report.json"]
    (folder / "synthetic").mkdir()
    for name in names[:-1]:
        (folder / name).write_text(mark)
    report = {"schema": "dfqonnx.report/2", "files": names, "mark": mark}
    (folder / "report.json").write_text(json.dumps(report))

def write(out, mark, stop=None):
    with atomic_folder(out) as folder:
        fill(folder, mark)
        lines = 0
        def trace(frame, event, argument):
            nonlocal lines
            ours = frame.f_code.co_filename in CODE
            if not ours or threading.current_thread() is not threading.main_thread():
                return None
            if event == "line":
                lines += 1
                if lines == stop:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace
        frame = sys._getframe()
        sys.settrace(trace)
    sys.settrace(None)
    return lines

def state(out):
    try:
        report = json.loads((out / "report.json").read_text())
    except FileNotFoundError:
        return "none"
    mark = report["mark"]
    for name in report["files"][:-1]:
        if not (out / name).is_file() or (out / name).read_text() != mark:
            return f"broken {mark}: {name}"
    found = [p for p in out.rglob("*") if p.is_file() and ".dfqonnx" not in str(p)]
    there = {str(p.relative_to(out)) for p in found}
    extra = there - {*report["files"], "mine/notes.txt"}
    return f"{mark} and {sorted(extra)}" if extra else mark

def prepare(out):
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir()
    write(out, "old")
    (out / "mine").mkdir()
    (out / "mine" / "notes.txt").write_text("mine")

def one(at):
    out = root / "place" / "out"
    prepare(out)
    child = os.fork()
    if not child:
        try:
            lines = write(out, "new", at)
            (root / "lines").write_text(str(lines))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    found = {"at": at, "killed": os.WIFSIGNALED(status), "seen": state(out)}
    found["mine"] = (out / "mine" / "notes.txt").is_file()
    check_out(out)
    found["next"] = state(out)
    write(out, "third")
    found["third"] = state(out)
    found["mine"] = found["mine"] and (out / "mine" / "notes.txt").is_file()
    found["left"] = [str(p.relative_to(root)) for p in (root / "place").rglob(".dfqonnx*")]
    return found

print(json.dumps(one(0)))
total = int((root / "lines").read_text())
every = max(1, total // int(sys.argv[3]))
for at in range(1, total + 1, every):
    print(json.dumps(one(at)), flush=True)
"""


def kill_at_lines(folder: Path, how: str, count: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(folder), how, str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    clean, *killed = map(json.loads, done.stdout.splitlines())
    assert (clean["killed"], clean["seen"], clean["left"]) == (False, "new", [])
    assert len(killed) >= count
    assert all(found["killed"] for found in killed)
    return killed


@pytest.mark.skipif(sys.platform != "linux", reason="exchanges folders as Linux does")
def test_a_kill_while_a_result_is_replaced_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    killed = kill_at_lines(tmp_path, "exchange", 50)
    for found in killed:
        assert found["seen"] in {"old", "new"}, found
        assert found["next"] == found["seen"], found
        assert (found["third"], found["mine"], found["left"]) == ("third", True, []), found
    assert {found["seen"] for found in killed} == {"old", "new"}


@pytest.mark.parametrize("how", ["inside", "refused"])
def test_where_folders_cannot_be_exchanged_the_next_run_completes_the_new_one(
    tmp_path: Path, how: str
) -> None:
    killed = kill_at_lines(tmp_path, how, 16)
    for found in killed:
        assert found["seen"] in {"old", "new", "none"}, found  # none: the report is not there yet
        assert found["next"] in {"old", "new"}, found
        assert (found["third"], found["mine"]) == ("third", True), found
        assert len(found["left"]) <= 1, found  # a folder without a lock yet stays for a week
    assert {found["next"] for found in killed} == {"old", "new"}


def left_behind(home: Path, *, host: str, age: float) -> Path:
    """A staging folder as another machine, or a dead process on this one, leaves it."""
    place = home / f"{staging.STAGING}-{host[:4]}{age:.0f}"
    place.mkdir()
    lock = place / staging.LOCK
    lock.write_text(host)
    os.utime(lock, times=(time.time() - age, time.time() - age))
    return place


def test_what_another_machine_writes_is_swept_only_after_a_long_silence(tmp_path: Path) -> None:
    writing = left_behind(tmp_path, host="another", age=30)
    dead = left_behind(tmp_path, host="another", age=2 * staging.SILENT_SECONDS)
    mine = left_behind(tmp_path, host=staging._host(), age=0)
    old = tmp_path / f"{staging.STAGING}-1-of-010"  # as version 0.1.0 named them, by process
    new = tmp_path / f"{staging.STAGING}-2-of-010"
    for path in (old, new):
        path.mkdir()
    week = time.time() - staging.FORGOTTEN_SECONDS - 60
    os.utime(old, times=(week, week))
    staging.sweep(tmp_path)
    assert (writing.exists(), dead.exists(), mine.exists()) == (True, False, False)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_writer_touches_its_lock_while_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "TOUCH_SECONDS", 0.01)
    with staging.staging_folder(tmp_path) as place:
        lock = place.parent / staging.LOCK
        os.utime(lock, times=(0, 0))
        deadline = time.monotonic() + 10
        while lock.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - lock.stat().st_mtime < 60


NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]


def _can_unshare() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="no namespaces of processes here")
def test_processes_of_another_container_are_alive_until_they_are_not(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from dfqonnx.core.atomic_write import atomic_folder\n"
        "assert os.getpid() == 1\n"  # as in a container
        "with atomic_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x'); print('ready', flush=True)\n"
        "    while True:\n        signal.pause()\n"  # not even the end of its input ends it
    )
    with subprocess.Popen(
        [*NAMESPACE, "--kill-child", sys.executable, "-c", script, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with atomic_folder(tmp_path / "mine") as folder:
            (folder / "a").write_text("a")
        (running,) = tmp_path.glob(f"{staging.STAGING}-*")
        assert (running / staging.CONTENT / "half").is_file()  # the other one's work is untouched
        other.kill()
    deadline = time.monotonic() + 20
    while running.exists() and time.monotonic() < deadline:
        staging.sweep(tmp_path)
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_two_writers_of_one_folder_do_not_delete_each_others_work(tmp_path: Path) -> None:
    def fill(folder: Path, mark: str) -> None:
        (folder / mark).write_text(mark)
        report = {"schema": "dfqonnx.report/2", "files": [mark, "report.json"]}
        (folder / "report.json").write_text(json.dumps(report))

    out = tmp_path / "out"
    with atomic_folder(out) as one:
        with atomic_folder(out) as other:
            fill(other, "other")
        assert one.is_dir()
        check_out(out)
        fill(one, "one")
    assert sorted(path.name for path in out.iterdir()) == ["one", "report.json"]
    assert list(tmp_path.iterdir()) == [out]


def test_the_current_folder_stays_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mark in ("first", "second"):
        with atomic_folder(tmp_path) as folder:
            (folder / mark).write_text(mark)
            report = {"schema": "dfqonnx.report/2", "files": [mark, "report.json"]}
            (folder / "report.json").write_text(json.dumps(report))
        monkeypatch.chdir(tmp_path)
        check_out(Path())
    assert sorted(path.name for path in Path().iterdir()) == ["report.json", "second"]
