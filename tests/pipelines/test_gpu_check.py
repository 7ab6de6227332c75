"""The prepared check of a GPU, on the CPU against itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dfqonnx.config.recipe import read_recipe

sys.path.insert(0, str(Path(__file__).parents[2] / "pipelines/benchmarks"))

import gpu_check


def test_the_losses_of_one_device_are_its_own() -> None:
    found = gpu_check.compare_losses("cpu", steps=2)
    assert found["good"]
    assert found["largest_apart"] == 0.0
    assert len(found["cpu"]["losses"]) == 2


def test_its_recipe_of_a_long_training_is_one_that_can_be_read(tmp_path: Path) -> None:
    recipe = read_recipe(str(gpu_check.write_recipe(tmp_path, "long", steps=1234)))
    assert recipe.distillation.steps == 1234


def test_a_part_that_fails_says_why_and_the_others_go_on() -> None:
    def fail() -> dict[str, object]:
        raise RuntimeError("no kernel image is available")

    found = gpu_check.attempt(fail)
    assert not found["good"]
    assert "no kernel image" in gpu_check.describe("losses", found)


def test_without_a_gpu_it_says_so_in_a_line(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    file = Path(gpu_check.__file__)
    done = subprocess.run(
        [sys.executable, str(file), "--out", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no CUDA device" in done.stderr
    assert "Traceback" not in done.stderr
