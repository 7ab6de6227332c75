"""The whole job on a small network: what is written, twice the same, and nothing half done."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.cli.conftest import Done, Run

FAST = """about: quick
synthesis: {source: dead-leaves, images: 64}
distillation: {steps: 4, batch_size: 16, holdout_images: 8}
"""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A recipe of a few steps."""
    torch.set_num_threads(1)
    path = tmp_path / "quick.yaml"
    path.write_text(FAST)
    return path


def quantize(dfqonnx: Run, small: Path, quick: Path, *more: str | Path) -> Done:
    return dfqonnx("run", "--model", small, "--recipe", quick, "--preprocess", "zero-one", *more)


def test_a_run_writes_the_whole_folder_and_says_so(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path
) -> None:
    done = quantize(dfqonnx, small, quick)
    out = tmp_path / "small-w4a4"
    written = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert written == {
        "small.w4a4.onnx",
        "report.html",
        "report.json",
        "report.md",
        "recipe.yaml",
        "log.jsonl",
        "synthetic/images.npz",
        "synthetic/contact-sheet.png",
    }
    report = json.loads((out / "report.json").read_text())
    assert set(report["files"]) == written
    assert report["bits"]["weights"] == 4
    assert report["seconds"].keys() >= {"synthesize", "distill", "export", "evaluate", "total"}
    assert "Wrote small-w4a4/small.w4a4.onnx (8 files" in done.out
    assert done.out.splitlines()[-1].startswith("Next: dfqonnx validate --teacher")
    assert done.code == report["verdict"].count("fail")
    onnx.checker.check_model(out / "small.w4a4.onnx", full_check=True)


def test_the_same_seed_gives_the_same_bytes_and_the_written_recipe_too(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path
) -> None:
    quantize(dfqonnx, small, quick, "--out", "first")
    quantize(dfqonnx, small, quick, "--out", "second")
    quantize(dfqonnx, small, tmp_path / "first" / "recipe.yaml", "--out", "third")
    quantize(dfqonnx, small, quick, "--out", "other", "--seed", "1")
    data = {
        name: (tmp_path / name / "small.w4a4.onnx").read_bytes()
        for name in ("first", "second", "third", "other")
    }
    assert data["first"] == data["second"] == data["third"]
    assert data["first"] != data["other"]


def test_labeled_images_are_measured_and_the_file_remembers_its_preprocessing(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 8, 8, 3), np.uint8), rng.integers(0, 4, 20)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    done = quantize(dfqonnx, small, quick, "--eval-data", "data.npz", "--json")
    report = json.loads(done.out)
    assert report["drop"]["points"]["n"] == 20
    assert report["student"]["top1"]["n"] == 20
    plain = report["training"]["untrained_top1"]
    assert plain["n"] == 20 if report["training"]["kept"] else plain is None
    assert report["parity"]["evaluation_images"] == 20
    assert report["parity"]["evaluation_same_class"] == 1.0
    student = tmp_path / "small-w4a4" / "small.w4a4.onnx"
    again = dfqonnx(
        "validate", "--teacher", small, "--student", student, "--eval-data", "data.npz", "--json"
    )
    found = json.loads(again.out)
    assert found["student"]["top1"] == report["student"]["top1"]
    assert found["preprocess"]["name"] == "zero-one"
    assert found["preprocess_guessed"] is False
    assert again.err == "", "no warning about a guess"


def test_validate_without_data_compares_on_procedural_images_and_writes_when_asked(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path
) -> None:
    quantize(dfqonnx, small, quick)
    student = tmp_path / "small-w4a4" / "small.w4a4.onnx"
    done = dfqonnx("validate", "--teacher", small, "--student", student, "--out", "proof")
    assert "agreement" in done.out
    assert {p.name for p in (tmp_path / "proof").iterdir()} == {
        "report.html",
        "report.json",
        "report.md",
    }
    swapped = dfqonnx("validate", "--teacher", student, "--student", small)
    assert swapped.code == 3
    assert "already quantized" in swapped.err


def test_without_preprocess_a_guess_is_made_said_and_reported(
    dfqonnx: Run, small: Path, quick: Path
) -> None:
    done = dfqonnx("run", "--model", small, "--recipe", quick, "--json")
    report = json.loads(done.out)
    assert report["preprocess_guessed"] is True
    assert any("--preprocess" in warning for warning in report["warnings"])
    assert any("--preprocess" in json.loads(line)["warning"] for line in done.err.splitlines())


def test_a_dry_run_writes_nothing(dfqonnx: Run, small: Path, quick: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    done = quantize(dfqonnx, small, quick, "--dry-run")
    assert done.code == 0
    assert "nothing was written" in done.out
    assert set(tmp_path.iterdir()) == before
    wrong = {"x": np.zeros((4, 16, 16, 3), np.uint8), "y": np.zeros(4, np.int64)}
    np.savez(tmp_path / "wrong.npz", **wrong)
    refused = quantize(dfqonnx, small, quick, "--dry-run", "--eval-data", "wrong.npz")
    assert refused.code == 2
    assert "wrong.npz" in refused.err


def test_a_full_disk_ends_with_4_and_leaves_nothing(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "images.npz")

    monkeypatch.setattr("numpy.savez_compressed", full)
    done = quantize(dfqonnx, small, quick)
    assert done.code == 4
    assert "small-w4a4: the disk is full (No space left on device); free space" in done.err
    assert {p.name for p in tmp_path.iterdir()} == {"small.onnx", "quick.yaml"}


def test_a_disk_without_room_is_refused_before_anything_slow(
    dfqonnx: Run, small: Path, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 2**20})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    done = quantize(dfqonnx, small, quick)
    assert done.code == 4
    assert "1 MiB free" in done.err


def test_a_disk_without_room_for_the_images_is_refused_before_they_are_made(
    dfqonnx: Run, small: Path, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick.write_text(FAST.replace("images: 64", "images: 10000000"))
    usage = type("Usage", (), {"free": 2**30})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    done = quantize(dfqonnx, small, quick)
    assert done.code == 4
    pixels = 10_000_000 * 3 * 8 * 8
    assert f"1024 MiB free, about {pixels / 2**20 + 64:.0f} MiB needed" in done.err


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_run_leaves_no_file_under_its_final_name(
    small: Path, tmp_path: Path, root: Path, number: int, code: int
) -> None:
    long = tmp_path / "long.yaml"
    long.write_text(FAST.replace("steps: 4", "steps: 1000000"))
    arguments = ["run", "--model", str(small), "--recipe", str(long), "--preprocess", "zero-one"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dfqonnx", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("distill"):
            break
    time.sleep(0.2)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, (said, err)
    assert out == ""
    names = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".dfqonnx-partial")}
    assert names == {"small.onnx", "long.yaml"}
    if number != signal.SIGKILL:
        word = "interrupted" if number == signal.SIGINT else "terminated"
        kept = "no partial file is left; the same command continues after initialize"
        assert err.splitlines()[-1] == f"Error: {word}; {kept}"
        assert len(list(tmp_path.iterdir())) == 2
