"""One run on two processes that torchrun starts; a killed one ends the job, which then goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.networks import balanced_classifier, colored_images, logits_of

ROOT = Path(__file__).parents[2]
RECIPE = """about: a short training of few images
synthesis: {{images: 96, pixels: {{first_batch_steps: 3, batch_steps: 3}}}}
distillation: {{steps: {steps}, batch_size: 32, gptq_damping: [], calibration_images: 24}}
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]


def start(
    folder: Path, *, steps: int, ranks: int, out: str = "out2", seed: int = 0
) -> subprocess.Popen[str]:
    """Begin a run in a folder that holds `net.onnx`."""
    (folder / "recipe.yaml").write_text(RECIPE.format(steps=steps))
    words = [
        "-m", "dfqonnx", "run", "net.onnx", "--bits", "w4a4", "--recipe", "recipe.yaml",
        "--preprocess", "zero-one", "--out", out, "--seed", str(seed),
    ]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"),
        "DFQONNX_CACHE": str(folder / "cache"),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *launch, *words], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def divergence(folder: Path, name: str) -> float:
    """Mean KL(float || student) on images that no run has seen, by ONNX Runtime."""
    pixels = colored_images(512, seed=77)
    logs = []
    for file in (folder / "net.onnx", folder / name / "net.w4a4.onnx"):
        z = logits_of(file, pixels).astype(np.float64)
        logs.append(z - np.log(np.exp(z).sum(1, keepdims=True)))
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(1).mean())


def test_two_processes_make_one_student_as_good_as_that_of_one(tmp_path: Path) -> None:
    balanced_classifier(tmp_path / "net.onnx")
    found = {}
    for name, ranks, seed in (("one", 1, 0), ("other", 1, 1), ("third", 1, 2), ("two", 2, 0)):
        process = start(tmp_path, steps=300, ranks=ranks, out=name, seed=seed)
        text, _ = process.communicate(timeout=400)
        assert process.returncode == 0, text
        assert text.count(f"Wrote {name}") == 1, "one process shows and writes"
        found[name] = divergence(tmp_path, name)
    two = found.pop("two")  # from other images, as other seeds are
    assert two < 2 * max(found.values()), (two, found)


def workers_of(process: subprocess.Popen[str]) -> dict[str, int]:
    """The processes that torchrun started, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = {}
    for child in map(int, children):
        environment = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
        ranks = [entry.partition("=")[2] for entry in environment if entry.startswith("RANK=")]
        found.update(dict.fromkeys(ranks, child))
    return found


@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_killed_process_ends_the_job_and_the_same_command_goes_on(
    tmp_path: Path, victim: str
) -> None:
    balanced_classifier(tmp_path / "net.onnx")
    process = start(tmp_path, steps=2000, ranks=2)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("distill"):
            break
    time.sleep(7)  # the state of training is kept after five seconds
    os.kill(workers_of(process)[victim], signal.SIGKILL)
    began = time.monotonic()
    rest, _ = process.communicate(timeout=120)
    assert time.monotonic() - began < 60, "nobody waits for the one that is gone"
    assert process.returncode != 0
    assert len(re.findall("^Error: ", rest, re.MULTILINE)) == 1, rest
    ours, _, _ = rest.partition("torch/distributed/elastic")
    assert "Traceback" not in ours
    assert not (tmp_path / "out2").exists()
    process = start(tmp_path, steps=2000, ranks=2)
    text, _ = process.communicate(timeout=400)
    assert process.returncode == 0, text
    assert "Continuing a run that stopped" in text
    assert (tmp_path / "out2/net.w4a4.onnx").is_file()
