"""What a user of a real network is told: every way in which proofs were once found to mislead."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dfqonnx.cli.app import command_line
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow
BGR = "{scale: 255, mean: 0, std: 1, channels: BGR}"
SIGNED = "{scale: 127.5, mean: 1, std: 1, channels: BGR}"
FACES = "{scale: 1, mean: 127, std: 128}"
ALWAYS = ("--gate", "size<=1000x", "--gate", "speedup>=0")  # whatever this machine times


def quantize(model: Path, folder: Path, *more: str, recipe: str = "ptq") -> Path:
    """Run a recipe without a rule; return the folder."""
    torch.set_num_threads(1)
    arguments = ["run", str(model), "--recipe", recipe, "--out", str(folder), "--quiet", *more]
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


def test_a_detector_at_eight_and_at_four_bits_is_told_apart(
    dfqonnx: Run, shared: Path, tmp_path: Path
) -> None:
    model = shared / "models" / "third_party" / "fastestdet_coco.onnx"
    preprocess = tmp_path / "bgr.yaml"
    preprocess.write_text(BGR)
    found = {}
    sixty = ("default", "--budget", "60s")
    for bits, (recipe, *more) in {"8": ("ptq",), "w4a8": sixty}.items():
        more += ["--bits", bits, "--preprocess", str(preprocess)]
        out = quantize(model, tmp_path / bits, *more, recipe=recipe)
        bare = read(out)
        assert bare["verdict"] in {"not judged", "inconclusive"}, "no rule, no pass"
        assert bare["file_checks"]["status"] in {"pass", "warning"}
        assert bare["size_ratio"] < 0.5
        assert integer_convolutions(bare) == convolutions(model) == 70
        assert names(bare) & {"low-sqnr", "low-sqnr-at-8-bits"}
        done = dfqonnx("validate", "-t", model, "-s", student_of(out), *ALWAYS, "--json",
                       "--eval-data", shared / "data" / "coco_val128.tar", "--preprocess",
                       preprocess, "--gate", "fidelity_map50>=0.9", "--gate",
                       "map50.drop<=0.03")  # fmt: skip
        found[bits] = json.loads(done.out), done.code
    (eight, code), (four, other) = found["8"], found["w4a8"]
    assert (rule(eight, "fidelity_map50>=0.9")["holds"], code) == (True, 0)
    assert (rule(four, "fidelity_map50>=0.9")["holds"], other) == (False, 1)
    assert four["verdict"] == "fail"
    for report in (eight, four):
        measured = rule(report, "map50.drop<=0.03")["measured"]
        assert measured["n"] == 128
        assert measured["low"] < measured["value"] < measured["high"]
    drops = [rule(report, "map50.drop<=0.03")["measured"]["value"] for report in (eight, four)]
    assert drops[0] < 0.03 < drops[1]


def test_a_text_recognizer_is_judged_by_what_it_reads(
    dfqonnx: Run, shared: Path, tmp_path: Path
) -> None:
    model = shared / "models" / "third_party" / "ppocr_rec.onnx"
    preprocess = tmp_path / "signed.yaml"
    preprocess.write_text(SIGNED)
    more = ("--bits", "8", "--preprocess", str(preprocess), "--image-size", "48x320")
    out = quantize(model, tmp_path / "out", *more)
    report = read(out)
    assert report["verdict"] in {"not judged", "inconclusive"}
    lines = tmp_path / "lines"
    lines.mkdir()
    with tarfile.open(shared / "data" / "text_lines.tar") as archive:
        labels = json.load(io.BytesIO(archive.extractfile("labels.json").read()))  # type: ignore[union-attr]
        rows = ["file,text"]
        for entry in labels["lines"][:60]:
            member = archive.extractfile(entry["image"])
            assert member is not None
            name = Path(entry["image"]).name
            (lines / name).write_bytes(member.read())
            rows.append(f'{name},"{entry["text"]}"')
    (lines / "texts.csv").write_text("\n".join(rows))
    done = dfqonnx("validate", "-t", model, "-s", student_of(out), *ALWAYS, "--json",
                   "--eval-data", lines, "--preprocess", preprocess, "--image-size", "48x320",
                   "--gate", "characters.drop<=0.01")  # fmt: skip
    judged = json.loads(done.out)
    gate = rule(judged, "characters.drop<=0.01")
    assert gate["measured"]["n"] == 60
    lost = gate["measured"]
    assert gate["holds"] is (
        True if lost["high"] <= 0.01 else False if lost["low"] > 0.01 else None
    )
    assert (judged["verdict"] == "pass") is (gate["holds"] is True)


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


def convolutions(model: Path) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load(model).graph.node)


def integer_convolutions(report: dict[str, Any]) -> int:
    return sum(count for op, count in report["audit"]["integer_nodes"].items() if "Conv" in op)


def test_a_face_detector_with_a_batch_of_one_is_smaller_and_runs_on_integers(
    shared: Path, tmp_path: Path
) -> None:
    model = shared / "models" / "third_party" / "ultraface_rfb320.onnx"
    (tmp_path / "faces.yaml").write_text(FACES)
    out = quantize(model, tmp_path / "out", "--bits", "8", "--preprocess",
                   str(tmp_path / "faces.yaml"))  # fmt: skip
    report = read(out)
    assert integer_convolutions(report) == convolutions(model) == 52
    assert report["size_ratio"] < 0.5
    assert report["verdict"] in {"not judged", "inconclusive"}


def test_shortcuts_padded_by_zeros_and_slopes_behind_expand_stay_on_integers(
    tmp_path: Path,
) -> None:
    """Kinds of two published face detectors that once came out larger than their float files."""
    model = faces(tmp_path / "faces.onnx", 8)
    more = ("--bits", "8", "--preprocess", "zero-one", "--budget", "20s")
    report = read(quantize(model, tmp_path / "out", *more))
    assert integer_convolutions(report) >= convolutions(model) == 15, "shortcuts may be Conv too"
    assert report["size_ratio"] < 0.6
    assert "larger-than-float" not in names(report)
    assert report["verdict"] in {"not judged", "inconclusive"}


def faces(path: Path, wide: int) -> Path:
    """Write blocks of depthwise and pointwise Conv, as BlazeFace has them, for a batch of 1.

    The shortcut of a block with more channels is a MaxPool with zeros joined on; slopes of PRelu
    come out of an Expand.
    """
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}

    def conv(name: str, x: str, shape: tuple[int, ...], **more: Any) -> str:
        spread = (2 / np.prod(shape[1:])) ** 0.5
        weights[f"w_{name}"] = rng.normal(0, spread, shape).astype(np.float32)
        nodes.append(helper.make_node("Conv", [x, f"w_{name}"], [name], **more))
        return name

    def slope(name: str, x: str, channels: int) -> str:
        weights[f"a_{name}"] = np.full((1, 1, 1), 0.2, np.float32)
        weights[f"s_{name}"] = np.array([channels, 1, 1], np.int64)
        nodes.append(helper.make_node("Expand", [f"a_{name}", f"s_{name}"], [f"e_{name}"]))
        nodes.append(helper.make_node("PRelu", [x, f"e_{name}"], [name]))
        return name

    around = {"pads": [1, 1, 1, 1]}
    x = conv("stem", "image", (wide, 3, 3, 3), strides=[2, 2], **around)
    x, channels, side = slope("r_stem", x, wide), wide, 32
    for block in range(6):
        stride, out = (2, channels * 2) if block in {1, 3} else (1, channels)
        kernel = {"group": channels, "strides": [stride, stride], **around}
        y = conv(f"d{block}", x, (channels, 1, 3, 3), **kernel)
        y = conv(f"p{block}", y, (out, channels, 1, 1))
        if stride == 2:
            side //= 2
            size = {"kernel_shape": [2, 2], "strides": [2, 2]}
            nodes.append(helper.make_node("MaxPool", [x], [f"m{block}"], **size))
            weights[f"z{block}"] = np.zeros((1, channels, side, side), np.float32)
            joined = [f"m{block}", f"z{block}"]
            nodes.append(helper.make_node("Concat", joined, [f"j{block}"], axis=1))
            x = f"j{block}"
        nodes.append(helper.make_node("Add", [y, x], [f"sum{block}"]))
        x, channels = slope(f"r{block}", f"sum{block}", out), out
    for head, count in (("scores", 2), ("boxes", 4)):
        conv(f"c_{head}", x, (count, channels, 3, 3), **around)
        weights[f"s_{head}"] = np.array([1, -1, count], np.int64)
        nodes.append(helper.make_node("Transpose", [f"c_{head}"], [f"t_{head}"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Reshape", [f"t_{head}", f"s_{head}"], [head]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    outputs = [helper.make_tensor_value_info(head, TensorProto.FLOAT, [1, side * side, count])
               for head, count in (("scores", 2), ("boxes", 4))]  # fmt: skip
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "faces", [image], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
