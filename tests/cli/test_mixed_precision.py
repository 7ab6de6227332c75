"""Looking for widths from the command line: limits are held by the file, or refused early."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import Run
from tests.cli.networks import SMALL, WEIGHTS, balanced_classifier, model_from
from tests.cli.test_run import FAST

UNTRAINED = FAST.replace("steps: 4", "steps: 0")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return balanced_classifier(tmp_path / "net.onnx", classes=10, width=64)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "untrained.yaml"
    path.write_text(UNTRAINED)
    return path


def test_a_file_is_as_small_as_asked_and_its_report_says_why(
    dfqonnx: Run, network: Path, recipe: Path, tmp_path: Path
) -> None:
    whole = network.stat().st_size
    done = dfqonnx("run", network, "--max-size", "0.6x", "--target", "size", "--recipe", recipe,
                   "--preprocess", "zero-one")  # fmt: skip
    assert done.code == 0, done.err
    file = tmp_path / "net-mixed" / "net.mixed.onnx"
    assert file.stat().st_size <= 0.6 * whole
    report = json.loads((file.parent / "report.json").read_text())
    choice = report["bit_choice"]
    assert choice["limits"] == "--max-size 0.6x"
    assert {node["node"] for node in choice["nodes"]}
    assert all(node["reason"] for node in choice["nodes"])
    # training changes numbers, no sizes; scales may differ in how many share a value
    assert choice["chosen"]["bytes"] == pytest.approx(file.stat().st_size, rel=0.01)
    assert "--max-size 0.6x" in report["command"]
    page = (file.parent / "report.html").read_text()
    assert "Widths of the layers" in page
    assert "What the weight of every layer costs at each width" in page
    again = dfqonnx("report", file.parent)
    assert again.code == 0, again.err
    assert (file.parent / "report.html").read_text().count("Widths of the layers") == 1
    onnx.checker.check_model(str(file))


def test_bytes_are_those_of_the_file_with_the_users_inputs(
    dfqonnx: Run, tmp_path: Path, recipe: Path
) -> None:
    text = SMALL.replace("(float[N,3,8,8] x)", "(float[N,3,8,8] x, float[1] factor)")
    text = text.replace("r = Relu(a)", "m = Mul(a, factor) r = Relu(m)")
    network = tmp_path / "two.onnx"
    onnx.save(model_from(text, **WEIGHTS | {"w": (64, 3, 3, 3), "b": (64,), "v": (4, 64)}), network)
    done = dfqonnx("run", network, "--max-size", "0.9x", "--input", "factor=2", "--recipe", recipe,
                   "--preprocess", "zero-one")  # fmt: skip
    assert done.code in {0, 1}, done.err
    file = tmp_path / "two-mixed" / "two.mixed.onnx"
    assert file.stat().st_size <= 0.9 * network.stat().st_size
    assert {port.name for port in onnx.load(file).graph.input} == {"x", "factor"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-size", "0.05x"], "x, or less with --target size, which stores 2-bit weights"),
        (
            ["--max-size", "0.05x", "--bits-for", "Gemm=w8a8"],
            "with w4a8 where --bits-for fixes nothing",
        ),
        (["--max-drop", "nothing"], "points of top-1"),
        (["--min-speed", "2", "--target", "openvino"], "ONNX Runtime's CPU kernels"),
        (["--min-speed", "20x"], "--min-speed 20x: no widths meet this; the most possible is"),
        (["--bits", "w2a8", "--max-size", "0.3x"], "look for widths"),
    ],
)
def test_limits_that_cannot_be_met_are_refused_before_anything_is_written(
    dfqonnx: Run, network: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    done = dfqonnx("run", network, "--preprocess", "zero-one", *options)
    assert done.code == 2
    assert says in done.err
    assert not (tmp_path / "net-mixed").exists()


def test_a_drop_that_cannot_be_estimated_is_no_limit(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    done = dfqonnx("run", small, "--max-drop", "0.5", "--preprocess", "zero-one")
    assert done.code == 2
    assert "4 classes" in done.err
    assert "use --max-size or --min-speed" in done.err
