"""What a result says where its evidence is worth little, on a small network with good labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfqonnx.cli.app import command_line
from dfqonnx.core.input_format import METADATA_KEY, PRESETS, InputFormat
from dfqonnx.evaluation import evaluate as evaluation
from dfqonnx.runtime.latency import Latency
from dfqonnx.workflows.gather_evidence import find_contradictions
from tests.cli.conftest import Done, Run
from tests.cli.networks import balanced_classifier, colored_images, logits_of

RECIPE = """about: quick
synthesis: {source: dead-leaves, images: 64}
distillation: {steps: 0, batch_size: 16, holdout_images: 13}
"""
CLASSES = 10


@pytest.fixture(scope="module", autouse=True)
def quick_latency() -> Iterator[None]:
    """Time nothing: as fast as the float model."""
    known = Latency(
        teacher_ms=1.0, student_ms=1.0, speedup=1.0, low=0.9, high=1.1, batch=1, threads=1
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(evaluation, "measure_latency", lambda *args, **kwargs: known)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run at eight bits, its float file and labeled images beside it."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("evidence")
    teacher = balanced_classifier(home / "net.onnx", classes=CLASSES, width=32)
    (home / "quick.yaml").write_text(RECIPE)
    x = colored_images(400)
    y = logits_of(teacher, x).argmax(1)
    y[::9] = (y[::9] + 1) % CLASSES  # the float model errs on one of nine
    np.savez(home / "labeled.npz", x=x, y=y)
    order = np.random.default_rng(0).permutation(CLASSES)
    np.savez(home / "permuted.npz", x=x[:64], y=order[y[:64]])
    np.savez(home / "labeled64.npz", x=x[:64], y=y[:64])
    np.savez(home / "random.npz", x=x, y=np.random.default_rng(1).integers(0, CLASSES, 400))
    still = np.full((128, 8, 8, 3), 90, np.uint8)
    still[::2] += np.random.default_rng(2).integers(0, 2, (64, 8, 8, 3), np.uint8)
    np.savez(home / "still.npz", x=still, y=logits_of(teacher, still).argmax(1))
    arguments = ["run", "--model", teacher, "--bits", "8", "--recipe", home / "quick.yaml"]
    arguments += ["--preprocess", "zero-one", "--out", home / "out", "--quiet"]
    assert command_line([str(argument) for argument in arguments]) == 0
    return home / "out"


@pytest.fixture
def validate(dfqonnx: Run, out: Path) -> Run:
    """Run `dfqonnx validate` on the pair, with gates about size and speed that hold."""
    pair = ("-t", out.parent / "net.onnx", "-s", out / "net.w8a8.onnx")
    always = ("--gate", "size<=1000x", "--gate", "speedup>=0")
    return lambda *more: dfqonnx("validate", *pair, *always, "--json", *more)


def read(done: Done) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(done.out)
    return content


def names(report: dict[str, Any]) -> set[str]:
    return {warning["name"] for warning in report["evidence"]}


def test_good_evidence_passes_and_has_no_warnings(validate: Run, out: Path) -> None:
    done = validate("--eval-data", out.parent / "labeled.npz", "--gate", "drop<=10", "--strict")
    report = read(done)
    assert names(report) <= {"low-sqnr-at-8-bits"}  # a random network has little to say
    assert (report["verdict"], report["accuracy"]["status"], done.code) == ("pass", "pass", 0)


@pytest.mark.parametrize("preprocess", ["raw", "imagenet", "minus-one-one"])
def test_a_wrong_preprocess_ends_inconclusive_with_the_reason(
    validate: Run, out: Path, preprocess: str
) -> None:
    given = ("--eval-data", out.parent / "labeled.npz", "--preprocess", preprocess)
    done = validate(*given, "--gate", "drop<=100", "--gate", "estimated_drop<=100")
    report = read(done)
    assert "preprocess-contradicts-file" in names(report)
    judged = {g["rule"]: g for g in report["gates"] if g["topic"] == "accuracy"}
    assert judged["drop<=100"]["holds"] is judged["estimated_drop<=100"]["holds"] is None
    assert "preprocess-contradicts-file" in judged["drop<=100"]["doubts"]
    assert (report["verdict"], done.code) == ("inconclusive", 0)
    assert report["file_checks"]["status"] == "pass"
    assert validate(*given, "--gate", "drop<=100", "--strict").code == 1
    bare = read(validate(*given))
    assert bare["accuracy"]["status"] == "inconclusive"
    assert "preprocess-contradicts-file" in bare["accuracy"]["reasons"]


def test_the_recorded_preprocess_given_by_hand_contradicts_nothing(
    validate: Run, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "same.yaml").write_text("{scale: 127.5, mean: [0, 0, 0], std: [2, 2, 2]}")
    given = ("--eval-data", out.parent / "labeled.npz", "--preprocess", "same.yaml")
    assert "preprocess-contradicts-file" not in names(read(validate(*given)))
    (tmp_path / "bgr.yaml").write_text("{scale: 255, mean: 0, std: 1, channels: BGR}")
    assert "preprocess-contradicts-file" in names(read(validate("--preprocess", "bgr.yaml")))


def test_labels_in_another_order_end_inconclusive_on_64_images(validate: Run, out: Path) -> None:
    rules = ("--gate", "drop<=100", "--gate", "top1>=99", "--gate", "agreement>=0.5")
    report = read(validate("--eval-data", out.parent / "permuted.npz", *rules))
    assert "labels-permuted" in names(report)
    held = {g["rule"]: g["holds"] for g in report["gates"] if g["topic"] == "accuracy"}
    assert held == {"drop<=100": None, "top1>=99": None, "agreement>=0.5": True}
    assert report["verdict"] == "inconclusive"
    good = read(validate("--eval-data", out.parent / "labeled64.npz", *rules))
    assert names(good) <= {"few-images", "low-sqnr-at-8-bits"}
    assert "few-images" in names(good)


def test_labels_at_random_leave_the_float_model_at_chance(validate: Run, out: Path) -> None:
    report = read(validate("--eval-data", out.parent / "random.npz", "--gate", "drop<=100"))
    assert "float-model-at-chance" in names(report)
    assert report["accuracy"]["status"] == "inconclusive"


def test_outputs_that_stay_where_they_are_prove_nothing(validate: Run, out: Path) -> None:
    report = read(validate("--eval-data", out.parent / "still.npz", "--gate", "agreement>=0.01"))
    assert "outputs-hardly-vary" in names(report)
    assert report["accuracy"]["status"] == "inconclusive"


def test_a_run_without_a_rule_is_no_pass_anywhere(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"] == "not judged" or report["accuracy"]["status"] == "inconclusive"
    page = (out / "report.html").read_text()
    assert 'class="verdict pass"' not in page
    assert "<title>pass" not in page
    assert "accuracy" in (out / "report.md").read_text().splitlines()[2]
    assert "few-images" in names(report)
    assert "n = 8" in page


def test_the_card_of_the_page_shows_agreement_on_evaluation_images_and_n(
    dfqonnx: Run, out: Path, tmp_path: Path
) -> None:
    teacher, labeled = out.parent / "net.onnx", out.parent / "labeled.npz"
    done = dfqonnx(
        "run", "--model", teacher, "--bits", "8", "--recipe", out.parent / "quick.yaml",
        "--preprocess", "zero-one", "--out", "both", "--eval-data", labeled, "--json",
    )  # fmt: skip
    agreement = read(done)["agreement"]
    assert agreement["synthetic"]["n"] == 8
    page = (tmp_path / "both" / "report.html").read_text()
    card = page.partition('id="agreement"')[2].partition("</div>")[0]
    assert f"{100 * agreement['evaluation']['value']:.1f} %" in card
    assert "evaluation images" in card
    assert "n = 400" in card


def test_a_file_larger_than_float_warns_and_with_strict_fails(
    dfqonnx: Run, out: Path, tmp_path: Path
) -> None:
    teacher = balanced_classifier(tmp_path / "tiny.onnx", classes=CLASSES, width=2)
    recipe = ("--recipe", out.parent / "quick.yaml", "--preprocess", "zero-one")
    assert dfqonnx("run", "-m", teacher, "--bits", "8", *recipe, "--out", "tiny").code == 0
    x = colored_images(200)
    np.savez(tmp_path / "x.npz", x=x, y=logits_of(teacher, x).argmax(1))
    pair = ("-t", teacher, "-s", tmp_path / "tiny" / "tiny.w8a8.onnx")
    labeled = ("--eval-data", "x.npz", "--gate", "drop<=60")
    done = dfqonnx("validate", *pair, *labeled, "--json")
    report = read(done)
    assert report["student"]["bytes"] > report["teacher"]["bytes"], "few weights, many quantizers"
    assert report["file_checks"] == {
        "status": "warning", "reasons": ["smaller than the float file"],
    }  # fmt: skip
    assert "larger-than-float" in names(report)
    assert (report["verdict"], done.code) == ("warning", 0)
    assert dfqonnx("validate", *pair, *labeled, "--strict").code == 1


@pytest.mark.parametrize(
    "recorded",
    ["", "{", "5", "[]", "[" * 10**5, '{"mean": [1, 2], "std": [1, 2]}', '{"scale": NaN}'],
)
def test_a_damaged_record_of_a_file_is_told_and_ends_no_run(recorded: str) -> None:
    used = InputFormat(PRESETS["zero-one"], (3, 8, 8))
    (found,) = find_contradictions(used, {"net.onnx": {METADATA_KEY: recorded}})
    assert found.endswith("and what net.onnx records cannot be read.")
    assert list(find_contradictions(used, {"net.onnx": {}})) == []
