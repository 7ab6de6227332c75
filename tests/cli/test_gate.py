"""`--gate` on the command line: when it is read, what it decides, what is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.cli.conftest import Run
from tests.cli.networks import balanced_classifier, colored_images, logits_of

FAST = """about: quick
synthesis: {source: dead-leaves, images: 64}
distillation: {steps: 2, batch_size: 16, holdout_images: 8}
"""


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one run of a small network, its float file beside it."""
    from dfqonnx.cli.app import command_line

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("gates")
    balanced_classifier(home / "small.onnx")
    (home / "quick.yaml").write_text(FAST)
    arguments = ["run", "--model", home / "small.onnx", "--recipe", home / "quick.yaml"]
    arguments += ["--preprocess", "zero-one", "--out", home / "out", "--quiet"]
    arguments += ["--gate", "size<=1000x", "--gate", "drop<=1"]
    assert command_line([str(argument) for argument in arguments]) == 0
    return home / "out"


@pytest.fixture
def validate(dfqonnx: Run, quantized: Path) -> Run:
    """Run `dfqonnx validate` on the pair."""
    teacher, student = quantized.parent / "small.onnx", quantized / "small.w4a4.onnx"
    return lambda *more: dfqonnx("validate", "--teacher", teacher, "--student", student, *more)


def test_a_run_writes_junit_xml_and_its_rules_into_the_reports(quantized: Path) -> None:
    report = json.loads((quantized / "report.json").read_text())
    gates = {gate["rule"]: gate for gate in report["gates"] if gate["origin"] == "user"}
    assert gates["size<=1000x"]["holds"] is True
    assert gates["drop<=1"]["holds"] is None
    assert report["verdict"] == "inconclusive"
    assert "junit.xml" in report["files"]
    assert "drop<=1" in (quantized / "junit.xml").read_text().replace("&lt;", "<")
    assert "--gate 'size<=1000x'" in (quantized / "recipe.yaml").read_text()


def test_a_gate_that_fails_ends_with_1_and_everything_is_still_written(
    validate: Run, tmp_path: Path
) -> None:
    done = validate("--gate", "size<=0.0001x", "--gate", "float_nodes<=99", "--out", "proof")
    assert done.code == 1
    assert "FAILS" in done.out
    written = {path.name for path in (tmp_path / "proof").iterdir()}
    assert {"report.json", "report.md", "junit.xml"} <= written
    assert json.loads((tmp_path / "proof" / "report.json").read_text())["verdict"] == "fail"


def test_an_open_gate_ends_with_0_and_says_so_and_with_strict_ends_with_1(
    validate: Run, tmp_path: Path
) -> None:
    done = validate("--gate", "drop<=1")
    assert done.code == 0
    assert "; accuracy inconclusive (drop<=1)" in done.out.splitlines()[0]
    assert "labeled images are needed: give --eval-data" in done.out
    strict = validate(
        "--gate",
        "drop<=1",
        "--strict",
        "--gate",
        "size<=1000x",
        "--gate",
        "speedup>=0",
        "--out",
        "strict",
    )
    assert strict.code == 1
    assert strict.out.startswith("file checks pass; accuracy inconclusive (drop<=1)")
    assert 'failures="1"' in (tmp_path / "strict" / "junit.xml").read_text()


def test_labels_decide_a_rule_about_accuracy(
    validate: Run, quantized: Path, tmp_path: Path
) -> None:
    x = colored_images(400)
    y = logits_of(quantized.parent / "small.onnx", x).argmax(1)
    y[::4] = (y[::4] + 1) % 4  # a quarter is wrong
    np.savez(tmp_path / "data.npz", x=x, y=y)
    done = validate("--eval-data", "data.npz", "--gate", "drop<=60", "--gate", "top1>=99", "--json")
    gates = {gate["rule"]: gate for gate in json.loads(done.out)["gates"]}
    assert gates["drop<=60"]["holds"] is True
    assert gates["top1>=99"]["holds"] is False
    assert gates["drop<=60"]["measured"]["n"] == 400
    assert done.code == 1


@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_rule_that_cannot_be_read_is_told_before_anything_else(
    dfqonnx: Run, command: str
) -> None:
    files = ["--model", "none.onnx"] if command == "run" else ["-t", "none.onnx", "-s", "none.onnx"]
    done = dfqonnx(command, *files, "--gate", "drop<=1.0", "--gate", "sped>=2")
    assert done.code == 2
    assert done.err.splitlines()[:3] == [
        "Error: --gate 'sped>=2': unknown metric 'sped'; did you mean 'speedup'?",
        "  sped>=2",
        "  ^^^^",
    ]


def test_a_runner_is_told_by_annotations_summary_and_outputs(
    validate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.setenv(name, str(tmp_path / name))
    done = validate("--gate", "size<=0.0001x", "--out", "proof", "--json")
    assert json.loads(done.out)["verdict"] == "fail"  # annotations keep clear of stdout
    assert "::error title=gate fails%3A size<=0.0001x::" in done.err
    assert "::notice title=dfqonnx fail::" in done.err
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text().startswith("# ")
    assert "verdict=fail\n" in (tmp_path / "GITHUB_OUTPUT").read_text()


def test_a_summary_that_cannot_be_written_is_a_warning(
    validate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    done = validate()
    assert done.code == 0
    assert "the build server gets no result" in done.err


def test_validate_measures_on_the_images_that_the_run_held_out(validate: Run) -> None:
    done = validate("--json")
    assert json.loads(done.out)["agreement"]["synthetic"]["n"] == 8


def test_validate_does_not_import_torch_even_when_it_has_to_guess(
    quantized: Path, root: Path
) -> None:
    bare = quantized.parent / "bare.onnx"
    model = onnx.load(quantized / "small.w4a4.onnx")
    del model.metadata_props[:]
    onnx.save(model, bare)
    script = (
        "import sys\n"
        "from dfqonnx.cli.app import command_line\n"
        f"code = command_line(['validate', '-t', {str(quantized.parent / 'small.onnx')!r}, "
        f"'-s', {str(bare)!r}, '--gate', 'size<=1000x'])\n"
        "assert code == 0, code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    assert "--preprocess was not given" in done.stderr
    assert "compared on 256 procedural images" in done.stderr


def test_audit_takes_several_files_as_a_hook_gives_them(dfqonnx: Run, quantized: Path) -> None:
    student, teacher = quantized / "small.w4a4.onnx", quantized.parent / "small.onnx"
    assert dfqonnx("audit", "--strict", student).code == 0
    both = dfqonnx("audit", "--strict", student, teacher)
    assert both.code == 1
    assert f"{teacher}:" in both.out
    content = json.loads(dfqonnx("audit", "--json", student, teacher).out)
    assert [one["file"] for one in content] == [str(student), str(teacher)]
    assert dfqonnx("audit").code == 2
