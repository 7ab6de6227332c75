"""Recipes with generators, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.cli.conftest import Run

GAME = """
synthesis:
  source: generator
  images: 48
  losses: {class: 1.0, adversarial: 1.0}
  generator: {latent: 8, width_multiplier: 0.1, iterations: 3, batch_size: 16}
  co_training: {opponent: student, generators: 2, students: 2, student_steps: 2}
distillation:
  {steps: 4, batch_size: 16, holdout_images: 8, calibration_images: 16, gptq_damping: []}
"""


def test_a_game_runs_to_the_end_and_its_generators_serve_the_next_run(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "game.yaml").write_text(GAME)
    ask = ("run", "--model", small, "--preprocess", "zero-one")
    dfqonnx(*ask, "--recipe", "game.yaml", "--out", "first")
    report = json.loads((tmp_path / "first" / "report.json").read_text())
    assert "synthetic/generator.npz" in report["files"]
    assert report["images"]["guided_by"] == "2 gdfq generators, 3 steps"
    with np.load(tmp_path / "first" / "synthetic" / "generator.npz") as kept:
        assert {name.split(".")[0] for name in kept} == {"0", "1"}
    kept_there = GAME.replace("iterations: 3", "checkpoint: first/synthetic/generator.npz")
    (tmp_path / "again.yaml").write_text(kept_there)
    dfqonnx(*ask, "--recipe", "again.yaml", "--out", "again")
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    assert report["images"]["guided_by"] == "2 gdfq generators, trained before"


def test_the_same_seed_plays_the_same_game(dfqonnx: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "game.yaml").write_text(GAME)
    for out in ("first", "second"):
        dfqonnx("run", "--model", small, "--preprocess", "zero-one", "--recipe", "game.yaml",
                "--out", out)  # fmt: skip
    first, second = (tmp_path / out / "small.w4a4.onnx" for out in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_network_without_statistics_is_refused_before_anything_is_written(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    done = dfqonnx("run", "--model", small, "--preprocess", "zero-one", "--recipe", "dfqf")
    assert done.code == 2
    assert "--recipe dfqf needs statistics" in done.err
    assert "--recipe default" in done.err
    assert not (tmp_path / "small-w4a4").exists()


def test_a_scale_that_a_recipe_lacks_is_named(dfqonnx: Run, small: Path) -> None:
    done = dfqonnx("run", "--model", small, "--recipe", "dfqf", "--scale", "big")
    assert done.code == 2
    assert "no scale 'big'; it has: paper, quick" in done.err
