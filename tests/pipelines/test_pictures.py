"""docs/sources.md from the folders of runs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from dfqonnx.core.input_format import PRESETS
from tests.cli.networks import SMALL, WEIGHTS, model_from


def test_every_recipe_gets_a_small_sheet_and_a_place_on_the_page(
    root: Path, tmp_path: Path
) -> None:
    onnx.save(model_from(SMALL, **WEIGHTS), tmp_path / "small.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    for folder, recipe in (("one", "default"), ("two", "default"), ("three", "mine")):
        (tmp_path / "runs" / folder / "synthetic").mkdir(parents=True)
        report = {
            "teacher": {"path": str(tmp_path / "small.onnx")},
            "preprocess": dataclasses.asdict(PRESETS["zero-one"]),
            "images": {"divergence": 0.125},
        }
        (tmp_path / "runs" / folder / "report.json").write_text(json.dumps(report))
        (tmp_path / "runs" / folder / "recipe.yaml").write_text(f"name: {recipe}\n")
        np.savez(tmp_path / "runs" / folder / "synthetic" / "images.npz", x=pixels)
    figures = {"count": 512, "divergence": 0.0625, "confidence": 0.9, "rank": 9.0, "spread": 0.1}
    lines = [{"recipe": name, **figures, "picture": ""} for name in ("gdfq", "lrq")]
    (tmp_path / "measured.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for name in ("gdfq", "hast"):  # sheets that are there; lrq has figures, but no sheet
        Image.new("P", (4, 4)).save(tmp_path / "docs" / "images" / f"source-{name}.png")
    words = [
        sys.executable,
        "pipelines/benchmarks/pictures.py",
        tmp_path / "runs",
        "--docs",
        tmp_path / "docs",
        "--measured",
        tmp_path / "measured.jsonl",
    ]
    subprocess.run(words, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=True)
    page = (tmp_path / "docs" / "sources.md").read_text()
    row = next(line for line in page.splitlines() if "source-default" in line)
    assert "**default** (0.125, 40 images)<br>optimized images" in row
    assert page.index("source-default.png") < page.index("source-gdfq.png")
    assert page.index("source-gdfq.png") < page.index("source-mine.png")
    assert "**gdfq** (0.062, 512 images)<br>a generator told its class" in page
    assert "**hast** (earlier)<br>" in page
    assert "source-lrq" not in page
    for name in ("default", "mine"):
        with Image.open(tmp_path / "docs" / "images" / f"source-{name}.png") as sheet:
            assert sheet.mode == "P"
            assert sheet.width <= 24 + 360
