"""What a user of a real network is told: every way in which proofs were once found to mislead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfqonnx.cli.app import command_line
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow
SIGNED = "{scale: 127.5, mean: 1, std: 1, channels: BGR}"
ALWAYS = ("--gate", "size<=1000x", "--gate", "speedup>=0")  # whatever this machine times


def quantize(model: Path, folder: Path, *more: str) -> Path:
    """Run the ptq recipe without a rule; return the folder."""
    torch.set_num_threads(1)
    arguments = ["run", str(model), "--recipe", "ptq", "--out", str(folder), "--quiet", *more]
    assert command_line(arguments) == 0
    return folder


def student_of(folder: Path) -> Path:
    return next(folder.glob("*.w*.onnx"))


def names(report: dict[str, Any]) -> set[str]:
    return {warning["name"] for warning in report["evidence"]}


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def rule(report: dict[str, Any], text: str) -> dict[str, Any]:
    return next(gate for gate in report["gates"] if gate["rule"] == text)


@pytest.fixture(scope="module")
def classifier(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """ResNet-20, the folder of its run without any rule, and 2,000 labeled images."""
    home = tmp_path_factory.mktemp("resnet20")
    model = shared / "models" / "own_resnet20_cifar10.onnx"
    out = quantize(model, home / "out", "--bits", "8", "--preprocess", "cifar10")
    with np.load(shared / "data" / "cifar10_test.npz") as data:
        np.savez(home / "labeled.npz", x=data["x"][:2000], y=data["y"][:2000])
        order = np.random.default_rng(0).permutation(10)
        np.savez(home / "permuted.npz", x=data["x"][:64], y=order[data["y"][:64]])
    return model, out, home


def test_a_wrong_preprocess_is_inconclusive_and_says_why(
    dfqonnx: Run, classifier: tuple[Path, Path, Path]
) -> None:
    model, out, home = classifier
    given = ("validate", "-t", model, "-s", student_of(out), *ALWAYS, "--json",
             "--eval-data", home / "labeled.npz", "--preprocess", "raw",
             "--gate", "drop<=3")  # fmt: skip
    done = dfqonnx(*given)
    report = json.loads(done.out)
    assert {"preprocess-contradicts-file", "float-model-at-chance"} <= names(report)
    assert report["teacher"]["top1"]["value"] < 20
    assert rule(report, "drop<=3")["holds"] is None
    assert (report["verdict"], done.code) == ("inconclusive", 0)
    assert dfqonnx(*given, "--strict").code == 1


def test_labels_in_another_order_are_inconclusive(
    dfqonnx: Run, classifier: tuple[Path, Path, Path]
) -> None:
    model, out, home = classifier
    done = dfqonnx("validate", "-t", model, "-s", student_of(out), *ALWAYS, "--json",
                   "--eval-data", home / "permuted.npz", "--gate", "drop<=1")  # fmt: skip
    report = json.loads(done.out)
    assert "labels-permuted" in names(report)
    assert (report["verdict"], done.code) == ("inconclusive", 0)


def test_a_run_without_a_rule_is_no_pass(classifier: tuple[Path, Path, Path]) -> None:
    _, out, _ = classifier
    report = read(out)
    assert report["verdict"] in {"not judged", "inconclusive"}
    assert report["accuracy"]["status"] in {"estimated", "inconclusive"}
    page = (out / "report.html").read_text()
    assert 'class="verdict pass"' not in page
    assert "no rule" in page


def test_the_page_shows_what_2000_labeled_images_say_and_how_many_they_are(
    dfqonnx: Run, classifier: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model, out, home = classifier
    done = dfqonnx("validate", "-t", model, "-s", student_of(out), *ALWAYS, "--gate", "drop<=1",
                   "--eval-data", home / "labeled.npz", "--out", "page", "--json")  # fmt: skip
    report = json.loads(done.out)
    share = report["agreement"]["evaluation"]
    assert share["n"] == 2000
    assert share["value"] > 0.97
    card = (tmp_path / "page" / "report.html").read_text()
    card = card.partition('id="agreement"')[2].partition("</div>")[0]
    assert f"{100 * share['value']:.1f} %" in card
    assert "n = 2,000" in card
    assert (report["verdict"], done.code) == ("pass", 0)


@pytest.mark.parametrize("name", ["ppocr_cls", "dnsmos_p808"])
def test_eight_bits_far_off_are_no_pass_and_warn(name: str, shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "third_party" / f"{name}.onnx"
    more = ["--bits", "8"]
    if name == "ppocr_cls":
        (tmp_path / "signed.yaml").write_text(SIGNED)
        more += ["--preprocess", str(tmp_path / "signed.yaml"), "--image-size", "48x192"]
    report = read(quantize(model, tmp_path / "out", *more))
    assert report["verdict"] in {"not judged", "inconclusive"}
    worst = min(each["sqnr_db"] for each in report["agreement"]["outputs"])
    assert ("low-sqnr-at-8-bits" in names(report)) is (worst < 20)
    interval = report["agreement"]["outputs"][0]["sqnr_interval"]
    assert interval["low"] < interval["value"] < interval["high"]
    if name == "dnsmos_p808":
        assert {each["name"] for each in report["measures"]} == {"mae", "correlation"}
        assert "spread" in report["measures"][0]["meaning"], "a distance says what it is held to"
