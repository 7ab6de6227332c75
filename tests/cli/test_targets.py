"""Several targets in one run: one file, folder and report each, from the same images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from dfqonnx.config.commands import RunConfig
from dfqonnx.core.progress import Progress
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.workflows import run
from dfqonnx.workflows.assemble_report import TrainedRun
from dfqonnx.workflows.teacher import Teacher
from tests.cli.conftest import Done, Run

FAST = """about: quick
synthesis: {source: dead-leaves, images: 48}
distillation: {steps: 2, batch_size: 16, holdout_images: 8}
"""
BOTH = "onnxruntime-cpu,portable"


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A recipe of two steps."""
    torch.set_num_threads(1)
    path = tmp_path / "quick.yaml"
    path.write_text(FAST)
    return path


def quantize(dfqonnx: Run, small: Path, quick: Path, *more: str) -> Done:
    words = ("--recipe", quick, "--preprocess", "zero-one", "--bits", "w4a8")
    return dfqonnx("run", "--model", small, *words, *more)


def test_several_targets_share_images_and_each_gets_what_it_gets_alone(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path
) -> None:
    done = quantize(dfqonnx, small, quick, "--target", BOTH, "--out", "both")
    assert done.code == 0, done.err
    folders = [tmp_path / f"both-{name}" for name in BOTH.split(",")]
    last = " ".join(done.out.split())
    for name, folder in zip(BOTH.split(","), folders, strict=True):
        assert f"{name}: Wrote both-{name}/small.w4a8.onnx" in last
        report = json.loads((folder / "report.json").read_text())
        assert ("synthesize" in report["seconds"]) == (folder is folders[0])
        metadata = onnx.load(folder / "small.w4a8.onnx").metadata_props
        assert {e.key: e.value for e in metadata}["dfqonnx.target"] == name
    images = [np.load(folder / "synthetic" / "images.npz")["x"] for folder in folders]
    assert np.array_equal(*images)
    alone = quantize(dfqonnx, small, quick, "--target", "portable", "--out", "alone")
    assert alone.code == 0, alone.err
    same = [(f / "small.w4a8.onnx").read_bytes() for f in (folders[1], tmp_path / "alone")]
    assert same[0] == same[1]


def test_a_warning_about_one_target_is_in_its_report_alone(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, export = run.plan_quantizers, run._export

    def plan_and_warn(config: RunConfig, teacher: Teacher, progress: Progress) -> QuantizationPlan:
        progress.warn(f"planned for {config.target}.")
        return plan(config, teacher, progress)

    def export_and_warn(trained: TrainedRun, folder: Path, progress: Progress) -> Path:
        progress.warn(f"exported for {trained.config.target}.")
        return export(trained, folder, progress)

    monkeypatch.setattr(run, "plan_quantizers", plan_and_warn)
    monkeypatch.setattr(run, "_export", export_and_warn)
    done = quantize(dfqonnx, small, quick, "--target", BOTH, "--out", "both")
    assert done.code == 0, done.err
    for name in BOTH.split(","):
        warnings = json.loads((tmp_path / f"both-{name}" / "report.json").read_text())["warnings"]
        own = [w for w in warnings if w.startswith(("planned", "exported"))]
        assert own == [f"planned for {name}.", f"exported for {name}."]


def test_files_beside_their_folders_are_named_by_target(
    dfqonnx: Run, small: Path, quick: Path, tmp_path: Path
) -> None:
    done = quantize(dfqonnx, small, quick, "--target", BOTH, "--out", "net.onnx", "--json")
    assert done.code == 0, done.err
    assert len(json.loads(done.out)) == 2
    for name in BOTH.split(","):
        assert (tmp_path / f"net-{name}.onnx").is_file()
        assert (tmp_path / f"net-{name}" / "report.json").is_file()
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("onnxruntime-cpu,onnxruntime-cpu", "named twice"),
        ("onnxruntime-cpu,", "unknown --target ''"),
        ("onnxruntime-cpu,openvin", "did you mean 'openvino'"),
        ("onnxruntime-cpu,stm32", "weights of 4 bits are none for --target stm32"),
    ],
)
def test_a_list_with_one_bad_target_is_refused_before_anything(
    dfqonnx: Run, small: Path, quick: Path, target: str, words: str, tmp_path: Path
) -> None:
    done = quantize(dfqonnx, small, quick, "--target", target)
    assert done.code == 2
    assert words in done.err
    assert not list(tmp_path.glob("small-*"))


def test_a_dry_run_of_several_targets_is_one_list(dfqonnx: Run, small: Path, quick: Path) -> None:
    done = quantize(dfqonnx, small, quick, "--target", BOTH, "--dry-run", "--json")
    assert done.code == 0, done.err
    assert [each["target"] for each in json.loads(done.out)] == BOTH.split(",")


@pytest.mark.parametrize("target", ["vitisai", "tensorrt"])
def test_training_keeps_to_scales_and_biases_of_a_target(
    dfqonnx: Run, small: Path, quick: Path, target: str, tmp_path: Path
) -> None:
    done = quantize(dfqonnx, small, quick, "--bits", "w8a8", "--target", target, "--out", "made")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "made").glob("*.onnx")
    proto = onnx.load(path)
    arrays = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    scales = [arrays[n.input[1]] for n in proto.graph.node if n.op_type.endswith("izeLinear")]
    assert all((np.log2(scale) % 1 == 0).all() for scale in scales) == (target == "vitisai")
    report = json.loads((tmp_path / "made" / "report.json").read_text())
    assert report["training"]["steps"] == 2
    trained = [gate for gate in report["gates"] if "trained student" in gate["rule"]]
    assert [gate["holds"] for gate in trained] == [True]
