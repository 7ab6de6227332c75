"""Lists of measurements: which runs they stand for, what is done again and what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

MODELS = {"net": {"preprocess": {"scale": 255}, "data": "test.npz"}}


def measure(root: Path, folder: Path, content: dict[str, Any], *more: str) -> tuple[int, str, str]:
    path = folder / "list.yaml"
    path.write_text(yaml.safe_dump(content))
    words = [sys.executable, root / "pipelines" / "benchmarks" / "measure.py", path]
    words += ["--models", folder, "--data", folder, "--out", folder / "runs", *more]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def done(folder: Path, name: str, drop: float) -> None:
    (folder / "runs" / name).mkdir(parents=True)
    report = json.dumps({"drop": {"points": {"value": drop}}})
    (folder / "runs" / name / "report.json").write_text(report)


def test_what_is_there_is_not_done_again_and_seeds_come_in_turn(root: Path, tmp_path: Path) -> None:
    names = [
        "net.w4a4.ptq.s0",
        "net.w4a4.default.s0.2m",
        "net.w4a4.default.s0.quick",
        "net.w4a4.ptq.s1",
    ]
    for index, name in enumerate(names):
        done(tmp_path, name, index / 10)
    runs = [
        {"models": ["net"], "bits": ["w4a4"], "seeds": [0, 1], "recipe": "ptq"},
        {"models": ["net"], "bits": ["w4a4"], "seeds": [0], "budget": "2m"},
        {"models": ["net"], "bits": ["w4a4"], "seeds": [0], "effort": "quick"},
    ]
    code, told, _ = measure(root, tmp_path, {"models": MODELS, "runs": runs})
    assert code == 0
    assert told.splitlines() == [
        f"{k}/4 {name}: drop {(k - 1) / 10}, there already" for k, name in enumerate(names, 1)
    ]
    _, lane, _ = measure(root, tmp_path, {"models": MODELS, "runs": runs}, "--lane", "1/2")
    assert lane.splitlines() == [
        "1/2 net.w4a4.default.s0.2m: drop 0.1, there already",
        "2/2 net.w4a4.ptq.s1: drop 0.3, there already",
    ]


def test_a_run_that_fails_says_why_and_the_next_one_is_done(root: Path, tmp_path: Path) -> None:
    done(tmp_path, "net.w4a4.default.s1", 0.5)
    runs = [{"models": ["net"], "bits": ["w4a4"], "seeds": [0, 1]}]
    code, told, _ = measure(root, tmp_path, {"models": MODELS, "runs": runs})
    first, second = told.splitlines()
    assert code == 1
    assert first.startswith("1/2 net.w4a4.default.s0: exit 2: ")
    assert "net.onnx" in first
    assert second == "2/2 net.w4a4.default.s1: drop 0.5, there already"


def test_a_lane_that_is_none_is_refused(root: Path, tmp_path: Path) -> None:
    code, _, why = measure(root, tmp_path, {"models": {}, "runs": []}, "--lane", "2/2")
    assert code == 2
    assert "'2/2': expected LANE/LANES" in why


def test_a_model_that_the_list_does_not_describe_is_named(root: Path, tmp_path: Path) -> None:
    runs = [{"models": ["other"], "bits": ["w4a4"], "seeds": [0]}]
    code, _, why = measure(root, tmp_path, {"models": MODELS, "runs": runs})
    assert code == 1
    assert "runs name other; not among the models of the list" in why


def test_the_shipped_list_is_whole(root: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((root / "pipelines" / "benchmarks" / "results.yaml").read_text())
    named = {model for entry in content["runs"] for model in entry["models"]}
    assert named == set(content["models"])
