"""A budget holds for the whole run, within a quarter, where nothing else runs on the machine.

Time is the processor's here, of one thread: what an idle core would show on the wall.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, time
time.perf_counter = time.process_time  # before anybody reads it
import torch
torch.set_num_threads(1)
import dfqonnx.workflows.run as flow
from dfqonnx.config.request import run_request
began = time.perf_counter()
model, preprocess, budget = sys.argv[1:]
flow.run(run_request(model, "4", preprocess=preprocess, budget=float(budget), out="out"))
print(time.perf_counter() - began)
"""


def seconds_of(model: Path, preprocess: str, budget: int, folder: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(model), preprocess, str(budget)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [20, 60])
def test_a_small_network_keeps_to_its_budget(root: Path, tmp_path: Path, budget: int) -> None:
    seconds = seconds_of(root / "models" / "resnet20.onnx", "cifar10", budget, tmp_path)
    assert 0.5 * budget < seconds < 1.25 * budget


@pytest.mark.slow
def test_a_network_of_large_images_keeps_to_its_budget(shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "imagenet_mobilenetv1_025_bn.onnx"
    assert seconds_of(model, "minus-one-one", 20, tmp_path) < 1.25 * 20
