"""`dfqonnx audit` as a linter: what is shown, which exit code, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfqonnx.lint.rule import RULES
from tests.cli.conftest import Run
from tests.cli.test_light_install import light
from tests.lint.bad_files import BAD_FILES, good, residual, static
from tests.lint.qdq_nets import QdqNet


def test_int8_activations_of_quantize_static_are_named(dfqonnx: Run, tmp_path: Path) -> None:
    path = BAD_FILES["static_with_int8_activations"].build(tmp_path)
    done = dfqonnx("audit", path)
    assert done.code == 0
    assert "int8-activations" in done.out
    assert "QuantType.QUInt8" in done.out
    assert "read by 2 nodes" not in done.out
    assert "read by 2 nodes" in dfqonnx("audit", path, "--verbose").out
    in_float = [line for line in done.out.splitlines() if " Conv " in line]
    assert in_float
    assert all("QDQ003" in line for line in in_float)  # where the runtime's graph shows no reason


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--strict",), 1),
        (("--fail-on", "error"), 0),
        (("--fail-on", "warning"), 1),
        (("--fail-on", "note"), 1),
    ],
)
def test_the_exit_code_follows_the_level(
    options: tuple[str, ...], code: int, dfqonnx: Run, tmp_path: Path
) -> None:
    path = BAD_FILES["static_with_uint8_weights"].build(tmp_path)
    assert dfqonnx("audit", path, *options).code == code


def test_a_good_file_passes_the_strictest_rule(dfqonnx: Run, tmp_path: Path) -> None:
    done = dfqonnx("audit", good(tmp_path), "--strict", "--fail-on", "note")
    assert done.code == 0
    assert "No findings for onnxruntime-cpu." in done.out


def test_json_has_rule_nodes_share_cost_and_mend(dfqonnx: Run, tmp_path: Path) -> None:
    path = BAD_FILES["static_with_uint8_weights"].build(tmp_path)
    content = json.loads(dfqonnx("audit", path, "--json").out)
    assert content["file"] == str(path)
    assert content["target"] == "onnxruntime-cpu"
    (finding,) = content["findings"]
    assert finding["name"] == "uint8-weights"
    assert finding["multiply_adds"] == 1.0
    assert finding["layers"] == len(finding["nodes"]) == 4
    assert finding["cost"] == RULES[finding["rule"]].cost
    assert finding["mend"] == RULES[finding["rule"]].mend
    assert content["integer_nodes"]["QLinearConv"] == 3


def test_another_target_has_its_own_rules_and_nothing_is_run(dfqonnx: Run, tmp_path: Path) -> None:
    path = BAD_FILES["uint8_for_tensorrt"].build(tmp_path)
    done = dfqonnx("audit", path, "--target", "tensorrt")
    assert "unsigned-codes" in done.out
    assert "Rules only: nothing was run in TensorRT." in done.out
    assert "QLinearConv" not in done.out
    refused = dfqonnx("audit", path, "--target", "tensort")
    assert refused.code == 2
    assert "did you mean 'tensorrt'" in refused.err


def test_sarif_is_written_whole_or_not_at_all(dfqonnx: Run, tmp_path: Path) -> None:
    path = BAD_FILES["static_with_uint8_weights"].build(tmp_path)
    assert dfqonnx("audit", path, "--sarif", "audit.sarif").code == 0
    log = json.loads((tmp_path / "audit.sarif").read_text(encoding="utf-8"))
    (result,) = log["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "static.onnx"
    assert dfqonnx("audit", path, "--sarif", tmp_path).code == 2
    assert dfqonnx("audit", tmp_path / "absent.onnx", "--sarif", "other.sarif").code == 2
    assert not (tmp_path / "other.sarif").exists()


def test_a_file_that_the_runtime_refuses_shows_why(dfqonnx: Run, tmp_path: Path) -> None:
    path = BAD_FILES["sum_with_scales_in_lists"].build(tmp_path)
    done = dfqonnx("audit", path)
    assert done.code == 0
    assert "activation-scale-of-rank-1" in done.out
    assert "ONNX Runtime refuses the file" in done.out
    assert dfqonnx("audit", path, "--strict").code == 1
    assert json.loads(dfqonnx("audit", path, "--json").out)["refused"]


def test_several_files_are_told_apart(dfqonnx: Run, tmp_path: Path) -> None:
    bad = BAD_FILES["static_with_uint8_weights"].build(tmp_path)
    done = dfqonnx("audit", good(tmp_path), bad, "--sarif", "both.sarif")
    assert f"{bad}:" in done.out
    log = json.loads((tmp_path / "both.sarif").read_text(encoding="utf-8"))
    assert len(log["runs"][0]["results"]) == 1


def test_names_of_strangers_stay_on_their_line(dfqonnx: Run, tmp_path: Path) -> None:
    net = QdqNet()
    y = net.conv(net.quantize("x"), name="a\n::error::b\x1b[31m[bold]")
    done = dfqonnx("audit", net.save(tmp_path / "net.onnx", y), "--verbose")
    assert done.code == 0
    assert "\n::error" not in done.out
    assert "\x1b" not in done.out
    assert "[bold]" in done.out


def test_a_float_model_is_said_to_hold_no_quantizers(dfqonnx: Run, tmp_path: Path) -> None:
    assert "it holds no quantizers" in dfqonnx("audit", residual(tmp_path)).out


def test_rules_need_neither_torch_nor_a_runtime(tmp_path: Path) -> None:
    static(tmp_path)
    script = """
import sys
from dfqonnx.cli.app import command_line as run

assert run(["audit", "static.onnx", "--rules-only", "--fail-on", "warning"]) == 1
assert run(["audit", "static.onnx", "--rules-only", "--sarif", "a.sarif"]) == 0
assert "torch" not in sys.modules and "onnxruntime" not in sys.modules
"""
    done = light(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "int8-activations" in done.stdout
