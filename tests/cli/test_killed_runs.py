"""Runs that are killed at any moment: the folder holds the old result or the new one, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.cli.networks import SMALL, WEIGHTS, model_from

SCRIPT = r"""
import contextlib, hashlib, io, json, os, random, signal, sys, time
from pathlib import Path
import torch
import dfqonnx.workflows.run
from dfqonnx.cli.app import command_line
torch.set_num_threads(1)
folder, count = Path(sys.argv[1]), int(sys.argv[2])
os.chdir(folder)

def run(seed):
    words = ["run", "--model", "net.onnx", "--recipe", "tiny.yaml", "--preprocess", "zero-one"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return command_line([*words, "--quiet", "--out", "out", "--seed", str(seed)])

def whole():
    report = json.loads(Path("out/report.json").read_text())
    digest = hashlib.sha256(Path("out/net.w4a4.onnx").read_bytes()).hexdigest()
    there = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
    return digest == report["student"]["sha256"] and there == set(report["files"])

began = time.monotonic()
assert run(0) == 0
assert run(1) == 0
length = (time.monotonic() - began) / 2
chance = random.Random(23)
for at in range(count):
    child = os.fork()
    if not child:
        os._exit(run(at))
    time.sleep(chance.uniform(0, 1.1 * length))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(json.dumps({"killed": os.WIFSIGNALED(status), "whole": whole()}), flush=True)
assert run(99) == 0
print(json.dumps({"left": sorted(p.name for p in Path().iterdir()), "whole": whole()}))
"""


def kill_runs(folder: Path, count: int) -> None:
    onnx.save(model_from(SMALL, **WEIGHTS), folder / "net.onnx")
    recipe = "about: x\nsynthesis: {source: dead-leaves, images: 16}\ndistillation: {steps: 0}\n"
    (folder / "tiny.yaml").write_text(recipe)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), str(count)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *kills, last = map(json.loads, done.stdout.splitlines())
    assert [found["whole"] for found in kills] == [True] * count
    assert any(found["killed"] for found in kills)
    assert last == {"left": ["net.onnx", "out", "tiny.yaml"], "whole": True}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and exchanges folders as Linux does")
def test_twenty_five_killed_runs_leave_a_whole_result(tmp_path: Path) -> None:
    kill_runs(tmp_path, 25)
