"""`--metric`, `--head`, `--fit` and data of other tasks on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.cli.conftest import Run


def picture_network(path: Path, *, scale: float = 1.0) -> None:
    """A blur of RGB pictures 16 x 24, quantized to steps of `scale` / 64."""
    weight = np.zeros((3, 3, 3, 3), np.float32)
    for channel in range(3):
        weight[channel, channel] = scale / 9
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "blur",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 16, 24])],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.fixture
def compare(dfqonnx: Run, tmp_path: Path) -> Run:
    """Run `dfqonnx validate` on a blur and one that is a hundredth darker."""
    picture_network(tmp_path / "a.onnx")
    picture_network(tmp_path / "b.onnx", scale=0.99)
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    always = ("--preprocess", "zero-one", "--quiet")
    return lambda *more: dfqonnx("validate", "-t", first, "-s", second, *always, *more)


def test_pictures_are_measured_without_labels(compare: Run, tmp_path: Path) -> None:
    done = compare("--gate", "ssim>=0.9", "--gate", "psnr>=20", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found = {each["name"]: each for each in report["measures"]}
    assert found["ssim"]["student"] > 0.99
    assert found["ssim"]["inputs"] == "synthetic"
    assert "pictures/01.png" in report["files"]
    assert report["accuracy"]["status"] == "pass"
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64") == 4


METRIC = """
LOWER_IS_BETTER = ("darkness",)
def light(outputs, labels):
    return {"darkness": 1 - float(outputs["y"].mean()), "lit": 0.0 if labels is None else 1.0}
def broken(outputs, labels):
    return outputs["missing"]
"""


def test_a_metric_of_ones_own_decides_gates(compare: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METRIC)
    asked = ("--metric", f"{tmp_path / 'mine.py'}:light")
    done = compare(*asked, "--gate", "darkness.drop<=0.5", "--gate", "darkness<=1")
    assert done.code == 0, done.err
    done = compare(*asked, "--gate", "darkness.drop<=0")
    assert done.code == 1
    done = compare(*asked, "--gate", "darknes<=1")
    assert done.code == 2
    assert "returns no 'darknes'; did you mean 'darkness'" in done.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "mine.py:6: KeyError: 'missing'"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_a_failing_metric_ends_with_2(name: str, words: str, compare: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METRIC)
    done = compare("--metric", f"{tmp_path / 'mine.py'}:{name}")
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--head", "yolov7"], "unknown head 'yolov7'"),
        (["--head", "yolov8"], "y 8x3x16x24) are not one (N, 4 + K, A)"),
        (["--fit", "squeeze"], "unknown fit 'squeeze'"),
        (["--pixel-range", "1"], "write LOW:HIGH"),
        (["--gate", "darkness<=1"], "unknown metric 'darkness'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: list[str], words: str, compare: Run) -> None:
    done = compare(*arguments)
    assert done.code == 2
    assert words in done.err


NEEDY = """
def first(outputs, labels):
    return {"first": float(labels[0])}
"""


def test_a_metric_that_needs_labels_is_asked_where_there_are_some(
    compare: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(NEEDY)
    x = np.zeros((3, 16, 24, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.array([2, 1, 0]))
    (tmp_path / "real").mkdir()
    Image.new("RGB", (24, 16)).save(tmp_path / "real" / "1.png")
    asked = ("--metric", f"{tmp_path / 'mine.py'}:first", "--images", tmp_path / "real")
    done = compare(*asked, "--eval-data", tmp_path / "x.npz", "--gate", "first>=2")
    assert done.code == 0, done.err
    done = compare(*asked)
    assert done.code == 2
    assert "mine.py:3: TypeError" in done.err


def labeled_boxes(folder: Path) -> Path:
    folder.mkdir()
    Image.new("RGB", (24, 16)).save(folder / "1.png")
    entry = {"image": "1.png", "boxes": [[1, 1, 9, 9, 0]]}
    (folder / "labels.json").write_text(json.dumps({"images": [entry]}))
    return folder


def test_boxes_need_a_head_or_a_metric(compare: Run, tmp_path: Path) -> None:
    data = labeled_boxes(tmp_path / "set")
    done = compare("--eval-data", data)
    assert done.code == 2
    assert "no decoder is known for these outputs" in done.err
    (tmp_path / "mine.py").write_text(METRIC)
    done = compare(
        "--eval-data", data, "--metric", f"{tmp_path / 'mine.py'}:light", "--gate", "lit>=1"
    )
    assert done.code == 0, done.err


def test_damaged_labels_end_with_2_before_the_model_is_opened(compare: Run, tmp_path: Path) -> None:
    data = labeled_boxes(tmp_path / "set")
    (data / "labels.json").write_text('{"images": [{"image": "1.png", "boxes": [[1, 2]]}]}')
    done = compare("--eval-data", data)
    assert done.code == 2
    assert "labels.json: images[0]: boxes[0]: expected 5 numbers" in done.err
