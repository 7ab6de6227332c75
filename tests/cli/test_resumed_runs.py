"""Runs that are killed at any moment, once or twice, end as if they had not been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.networks import balanced_classifier

SCRIPT = r"""
import json, os, random, re, shutil, signal, sys, time
from pathlib import Path
import torch
from dfqonnx.checkpoint import stages
from dfqonnx.cli.app import command_line
from dfqonnx.workflows import run as flow, time_limits
torch.set_num_threads(1)
stages.MOST_SECONDS = 0.2  # between two states that are kept
evaluate = flow._evaluate  # most of the time of so small a network: less of it, so that kills hit
flow._evaluate = lambda *given, **named: evaluate(*given, **{**named, "seconds": 0.02})
time_limits.estimate_losses = lambda *_, **__: time_limits.explain_no_estimates("not asked for")
count, cache = int(sys.argv[1]), Path(os.environ["DFQONNX_CACHE"])
TIMES = {"latency", "seconds", "peak_memory_mib", "speedup"}

def run():
    words = ["run", "net.onnx", "--recipe", "tiny.yaml", "--preprocess", "zero-one", "--out", "out"]
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    for number in (1, 2):
        os.dup2(os.open(f"said{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = command_line(words)
    sys.stderr.flush()
    os._exit(code)

def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    if isinstance(value, list):
        return [without_times(each) for each in value if "speed" not in json.dumps(each)]
    return value

def result():
    report = without_times(json.loads(Path("out/report.json").read_text()))
    return Path("out/net.w4a4.onnx").read_bytes(), report

def clean():
    for folder in ("out", cache):
        shutil.rmtree(folder, ignore_errors=True)

lengths, whole = [], None
for _ in range(2):
    clean()
    began = time.monotonic()
    assert os.waitpid(run(), 0)[1] == 0
    lengths.append(time.monotonic() - began)
    assert whole in (None, result())
    whole = result()
chance = random.Random(int(sys.argv[2]))
for at in range(count):
    clean()
    killed = 0
    for _ in range(1 + at % 2):
        child = run()
        time.sleep(chance.uniform(0, min(lengths)))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    status = os.waitpid(run(), 0)[1]
    said = Path("said2").read_text()
    went_on = re.search(r"Continuing a run that stopped \S+ \S+ ago (.*?) \(", said)
    kept = "images" if "are those that an earlier run kept" in said else "nothing"
    hidden = [p.name for p in (*Path().iterdir(), *cache.rglob("*")) if "partial" in p.name]
    found = {
        "killed": killed,
        "ended": status == 0,
        "same": status == 0 and result() == whole,
        "from": re.sub(r"step .* of distill", "a step of distill", went_on[1]) if went_on else kept,
        "left": [p.name for p in (cache / "runs").iterdir()] + hidden,
    }
    print(json.dumps(found), flush=True)
"""
RECIPE = """about: x
synthesis: {source: dead-leaves, images: 256}
distillation: {steps: 150, batch_size: 16}
"""


def kill_and_resume(folder: Path, count: int, *, seed: int = 23) -> Counter[str]:
    """Kill `count` runs, every other one twice; return where those that followed began."""
    balanced_classifier(folder / "net.onnx")
    (folder / "tiny.yaml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(count), str(seed)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "OMP_NUM_THREADS": "1",
            "DFQONNX_CACHE": str(folder / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run["ended"] for run in runs] == [True] * count
    assert [run["same"] for run in runs] == [True] * count
    assert [run["left"] for run in runs] == [[]] * count
    began = Counter(run["from"] for run in runs)
    sys.stdout.write(f"{count} runs, killed {sum(run['killed'] for run in runs)} times, from:\n")
    sys.stdout.writelines(f"  {times:3d} {where}\n" for where, times in began.most_common())
    return began


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_fifty_killed_runs_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    began = kill_and_resume(tmp_path, 50)
    assert began["at a step of distill"] >= 5
