"""Hostile names in a model: a run ends well, and nothing that it prints or writes is raw."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.conftest import Run
from tests.cli.networks import SMALL, WEIGHTS, model_from
from tests.test_foreign_text import EVIL, assert_harmless


def evil_model() -> onnx.ModelProto:
    """The small network with hostile names wherever a name can stand."""
    model = model_from(SMALL, **WEIGHTS)
    names = {"x": f"in{EVIL}", "y": "a[/b]y" + EVIL, "r": f"r{EVIL}", "w": f"w{EVIL}"}
    for node in model.graph.node:
        node.name = f"{node.op_type}{EVIL}"
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = names.get(value.name, value.name)
    head = model.graph.node[-1].input[0]
    model.graph.node.append(helper.make_node("Softplus", [head], ["z"], name="long" * 10**5))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 8]))
    model.producer_name = EVIL
    return model


def test_a_run_over_hostile_names_ends_well_and_says_nothing_raw(
    dfqonnx: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(evil_model(), tmp_path / "evil.onnx")
    recipe = "about: x\nsynthesis: {source: dead-leaves, images: 16}\ndistillation: {steps: 0}\n"
    (tmp_path / "quick.yaml").write_text(recipe)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    done = dfqonnx(
        "run", "--model", "evil.onnx", "--recipe", "quick.yaml", "--preprocess", "zero-one",
        "--out", "out", "--gate", "size<=0.01x",
    )  # fmt: skip
    assert done.code == 1, done.err
    annotations = [line for line in done.err.splitlines() if line.startswith("::")]
    assert {line.split(" ")[0] for line in annotations} <= {"::error", "::warning", "::notice"}
    rest = [line for line in done.err.splitlines() if line not in annotations]
    for text in (done.out, "\n".join(rest), *(line[2:] for line in annotations)):
        assert_harmless(text)
    for path in (tmp_path / "summary.md", tmp_path / "out" / "report.md"):
        assert "<script" not in path.read_text()
        assert_harmless(path.read_text().replace("## ", ""))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page
    assert {c for c in page if unicodedata.category(c)[0] == "C"} == {"\n"}
    assert len(page) < 2_000_000
    ElementTree.parse(tmp_path / "out" / "junit.xml")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert f"a[/b]y{EVIL}" in {output["name"] for output in report["agreement"]["outputs"]}
    inspected = dfqonnx("inspect", "--model", "evil.onnx")
    assert inspected.code == 0
    assert_harmless(inspected.out)
    assert len(inspected.out) < 100_000
    student = onnx.load(tmp_path / "out" / "evil.w4a4.onnx")
    assert [output.name for output in student.graph.output] == [f"a[/b]y{EVIL}", "z"]


def test_a_refused_model_is_refused_in_harmless_words(dfqonnx: Run, tmp_path: Path) -> None:
    model = evil_model()
    node = model.graph.node[1]
    node.op_type, node.domain = f"Op{EVIL}", f"domain{EVIL}"
    weight = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight[..., :1], f"w{EVIL}"))
    (tmp_path / "evil.onnx").write_bytes(model.SerializeToString())
    for command in ("inspect", "run"):
        done = dfqonnx(command, "--model", "evil.onnx")
        assert done.code == 3
        assert_harmless(done.err)
        lines = done.err.splitlines()
        (place,) = [k for k, line in enumerate(lines) if line.startswith("Error: ")]
        assert all(line.startswith("  - ") for line in lines[place + 1 :])
    done = dfqonnx("inspect", "--model", "evil.onnx", "--json")
    assert_harmless(done.out)
    assert f"Relu{EVIL}" in {offense["node"] for offense in json.loads(done.out)["refusals"]}
