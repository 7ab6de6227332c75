"""Twelve tasks on a local Ray: a worker that is killed half-way costs nothing but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import onnx
import psutil
import pytest

from tests.jobs.conftest import LIMIT, kill_a_worker, start

pytest.importorskip("ray", reason="ray is not installed: pip install 'dfqonnx[ray]'")
pytestmark = pytest.mark.slow


def rows_of(out: Path) -> list[Path]:
    return list((out / "tasks").glob("*.json"))


def wait_for_rows(sweep: subprocess.Popen[str], out: Path, count: int) -> None:
    end = time.monotonic() + LIMIT
    while len(rows_of(out)) < count:
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_sweep_with_a_killed_worker_ends_complete(twelve: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = start(tmp_path, twelve, "--out", out, "--cores", "2")
    wait_for_rows(sweep, out, 5)
    killed = kill_a_worker(sweep)
    shown, told = sweep.communicate(timeout=LIMIT)
    assert sweep.returncode == 0, told
    assert "12 complete" in shown
    rows = {each["task"]: each for each in json.loads((out / "sweep.json").read_text())["rows"]}
    assert len(rows) == 12
    assert rows[killed]["attempts"] == 2, told
    assert f"{killed}: its worker was lost; attempt 2 began" in told
    for row in rows.values():
        (file,) = Path(row["folder"]).glob("*.onnx")
        onnx.checker.check_model(onnx.load(file))
    hidden = [p for p in out.rglob(".dfqonnx-partial-*") if p.is_dir()]
    assert hidden == [], "the next writer swept what the killed worker left"


def test_a_sweep_that_is_stopped_ends_soon_and_goes_on(twelve: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = len(rows_of(out)) if out.is_dir() else 0
        sweep = start(tmp_path, twelve, "--out", out, "--cores", "2")
        wait_for_rows(sweep, out, before + 2)
        children = psutil.Process(sweep.pid).children(recursive=True)
        os.kill(sweep.pid, number)
        _, told = sweep.communicate(timeout=60)
        assert sweep.returncode == code, told
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == [], "Ray's processes end with it"
        assert not (out / "sweep.json").exists()
    done = start(tmp_path, twelve, "--out", out, "--cores", "2")
    shown, told = done.communicate(timeout=LIMIT)
    assert done.returncode == 0, told
    assert "12 complete" in shown
    assert "of 12 tasks are complete already" in told


def test_more_than_the_machine_has_is_said_and_stops_no_other(twelve: Path, tmp_path: Path) -> None:
    twelve.write_text(
        "models: [one.onnx]\nrecipes: [ptq]\nresources: {memory: 9TiB}\n", encoding="utf-8"
    )
    done = start(tmp_path, twelve, "--cores", "1")
    shown, told = done.communicate(timeout=LIMIT)
    assert done.returncode == 1, told
    assert "it needs 1 core, 9216.0 GiB, and this machine has" in shown


def test_an_address_where_no_cluster_is_ends_with_4(twelve: Path, tmp_path: Path) -> None:
    done = start(tmp_path, twelve, "--address", "127.0.0.1:1")
    _, told = done.communicate(timeout=LIMIT)
    assert done.returncode == 4, told
    assert "no Ray cluster answers there" in told
