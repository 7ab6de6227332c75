"""The picture of drop over seconds: which runs are points of it, and what it says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

MODEL = "cifar10_resnet20_bn"


@pytest.fixture
def benchmarks(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(root / "pipelines" / "benchmarks"))
    return root / "pipelines" / "benchmarks"


def record(recipe: str, budget: str, drop: float, seconds: float, **changes: Any) -> dict[str, Any]:
    row = {"model": MODEL, "recipe": recipe, "scale": "-", "bits": "W4A4", "residual": "8"}
    row |= {"first_last": "like the others", "device": "-", "budget": budget}
    row |= {key: changes.pop(key) for key in list(changes) if key in row}
    numbers = dict.fromkeys(
        ("teacher_top1", "untrained", "n", "steps", "images_seen", "divergence", "memory_mib")
    )
    given = {"row": row, "seed": 0, "machine": "m", **numbers, "drop": drop, "seconds": seconds}
    return given | changes


def test_points_are_means_of_seeds_and_shortest_first(benchmarks: Path, tmp_path: Path) -> None:
    from effort_picture import DEFAULT, group, name_of
    from tables.curves import find_points
    from tables.records import read_records

    lines = [
        record("default", "-", 0.5, 140.0),
        record("default", "-", 0.7, 160.0, seed=1),
        record("ptq", "-", 1.0, 20.0),
        record("default", "effort high", 0.4, 600.0),
        record("dfqf", "-", 9.0, 1.0),
        record("default", "-", 9.0, 1.0, first_last="8"),
        record("default", "-", 9.0, 1.0, device="a GPU"),
        record("default", "-", 9.0, 1.0, bits="W3A3"),
        record("default", "-", 9.0, 1.0, model="other"),
    ]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    points = find_points(group(read_records(path)), replace(DEFAULT, bits="W4A4"))
    assert [name_of(p.row) for p in points] == ["--recipe ptq", "default", "--effort high"]
    assert [p.drop for p in points] == [1.0, pytest.approx(0.6), 0.4]
    assert [p.seconds for p in points] == [20.0, 150.0, 600.0]


def test_the_picture_names_every_point_and_what_labels_reach(
    benchmarks: Path, tmp_path: Path
) -> None:
    path, picture = tmp_path / "records.jsonl", tmp_path / "effort.svg"
    lines = [record("ptq", "-", 1.0, 20.0), record("default", "effort quick", 0.9, 50.0)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [sys.executable, benchmarks / "effort_picture.py", "--records", path, "--into", picture]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "W4A4 2 points" in done.stdout
    text = picture.read_text()
    for said in ("--recipe ptq (1)", "--effort quick (1)", "PACT W4A4, trained with labels"):
        assert said in text


def test_without_a_run_nothing_is_drawn(benchmarks: Path, tmp_path: Path) -> None:
    picture = tmp_path / "effort.svg"
    words = [sys.executable, benchmarks / "effort_picture.py", "--into", picture]
    words += ["--records", tmp_path / "none.jsonl"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert "run measure.py first" in done.stderr
    assert not picture.exists()
