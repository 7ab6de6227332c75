"""Commands as people type them who know other tools: each works, or says what works."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from dfqonnx.core.quantization import BitWidths
from dfqonnx.errors import UsageError
from tests.cli.conftest import Run


def test_the_model_is_given_by_its_place_or_by_name(dfqonnx: Run, small: Path) -> None:
    by_place, by_name = dfqonnx("inspect", small), dfqonnx("inspect", "--model", small)
    assert by_place.code == by_name.code == 0
    assert by_place.out == by_name.out
    assert dfqonnx("inspect", small, "--model", small).code == 0, "the same one twice is no quarrel"


@pytest.mark.parametrize("command", ["run", "inspect", "synth", "similarity"])
def test_two_models_that_differ_and_none_at_all_are_refused(
    dfqonnx: Run, small: Path, command: str
) -> None:
    done = dfqonnx(command, small, "--model", "other.onnx")
    assert done.code == 2
    assert f"given twice: {small} and --model other.onnx" in done.err
    done = dfqonnx(command)
    assert done.code == 2
    assert f"dfqonnx {command} MODEL.onnx" in done.err


@pytest.mark.parametrize(
    "arguments",
    [("a.onnx", "b.onnx"), ("a.onnx", "-s", "b.onnx"), ("b.onnx", "--teacher", "a.onnx"),
     ("-t", "a.onnx", "-s", "b.onnx")],
)  # fmt: skip
def test_validate_takes_the_float_file_before_the_quantized_one(
    dfqonnx: Run, small: Path, arguments: tuple[str, ...]
) -> None:
    small.rename(small.with_name("a.onnx"))
    done = dfqonnx("validate", *arguments)
    assert done.code == 2
    assert "b.onnx: no such file" in done.err
    assert "QUANTIZED is missing" in dfqonnx("validate", "a.onnx").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("quantize", "net.onnx"), "dfqonnx run net.onnx --bits 8"),
        (("quantise",), "dfqonnx run MODEL.onnx"),
        (("net.onnx", "--bits", "8"), "dfqonnx run net.onnx --bits 8"),
        (("evaluate",), "dfqonnx validate FLOAT.onnx QUANTIZED.onnx"),
        (("evaluate", "b.onnx"), "dfqonnx validate FLOAT.onnx b.onnx"),
        (("diff", "a.onnx", "b.onnx"), "dfqonnx validate a.onnx b.onnx"),
        (("quantize", "-i", "a.onnx", "-o", "b.onnx"), "run a.onnx --bits 8 --out b.onnx"),
        (("benchmark", "b.onnx"), "dfqonnx compare b.onnx --teacher FLOAT.onnx"),
        (("netron", "b c.onnx"), "dfqonnx view 'b c.onnx'"),
        (("isnpect", "net.onnx"), "did you mean 'dfqonnx inspect net.onnx'?"),
        (("version",), "dfqonnx --version"),
        (("qqqqqq",), "Commands: run, inspect"),
        (("run", "net.onnx", "--output", "x"), "here it is --out"),
        (("run", "net.onnx", "--calibration-data", "x"), "here it is --calibrate-with"),
        (("run", "net.onnx", "--nodes_to_exclude", "x"), "here it is --keep-float"),
        (("run", "net.onnx", "--bit", "8"), "--bits"),
    ],
)
def test_names_of_other_tools_and_slips_are_answered_with_ours(
    dfqonnx: Run, arguments: tuple[str, ...], words: str
) -> None:
    done = dfqonnx(*arguments)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("8", "w8a8"), ("int8", "w8a8"), ("INT8", "w8a8"), ("uint8", "w8a8"), ("8bit", "w8a8"),
        ("w8", "w8a8"), ("4", "w4a4"), ("int4", "w4a4"), ("w4", "w4a8"), ("w4a8", "w4a8"),
        ("W4-A8", "w4a8"), ("a8w4", "w4a8"), ("4x8", "w4a8"), ("int4/int8", "w4a8"),
        ("w2a3", "w2a3"),
    ],
)  # fmt: skip
def test_widths_are_read_as_people_write_them(text: str, label: str) -> None:
    assert BitWidths.parse(text).label == label


@pytest.mark.parametrize(
    "text",
    ["", "fp16", "w", "a8", "w4a15", "w16a8", "16", "1", "int", "4xx8", "w44a8", "-4", "4.5", "0"],
)
def test_other_widths_are_refused_with_those_that_are_taken(text: str) -> None:
    with pytest.raises(UsageError, match="w4a8"):
        BitWidths.parse(text)


@pytest.mark.parametrize("command", ["run", "inspect", "validate", "audit", "doctor", "synth"])
def test_help_shows_switches_without_a_value(dfqonnx: Run, command: str) -> None:
    done = dfqonnx(command, "--help")
    assert "--json" in done.out
    assert "bool" not in done.out.lower()


def test_help_tells_the_widths(dfqonnx: Run) -> None:
    for command in ("run", "inspect"):
        assert "4 = int4 = w4a4" in dfqonnx(command, "--help").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "coreml"), "unknown --target 'coreml'. Known: onnxruntime-cpu"),
        (("--device", "gpu"), "'--device': 'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("--seed", "x"), "'--seed': expected a whole number"),
        (("--strict-ends", "8.5"), "'--strict-ends': expected a whole number"),
    ],
)
def test_errors_of_options_hold_no_words_of_libraries(
    dfqonnx: Run, small: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = dfqonnx("run", small, *arguments)
    assert done.code == 2
    assert words in done.err
    for word in ("Value error", "Input should", "unable to parse", "Error: Invalid"):
        assert word not in done.err


def test_with_json_an_error_is_on_stdout_as_well(dfqonnx: Run) -> None:
    done = dfqonnx("run", "none.onnx", "--json")
    assert done.code == 2
    content = json.loads(done.out)
    assert content == json.loads(done.err)
    assert content["error"]["exit_code"] == 2


def test_the_shell_completes_commands_and_options(
    dfqonnx: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--install-completion" in dfqonnx("--help").out
    for typed, words in (("dfqonnx in", ["inspect"]), ("dfqonnx run --bi", ["--bits"])):
        monkeypatch.setenv("_DFQONNX_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
        with pytest.raises(SystemExit) as end:
            dfqonnx()
        assert end.value.code == 0, words


def test_nodes_are_kept_in_float_and_given_widths_in_the_file_and_told(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "synthesis: {source: dead-leaves, images: 64}\n"
        "distillation: {steps: 0, holdout_images: 8}\n"
        "placement: {bits_for: {Conv: w8a8}}\n"
    )
    done = dfqonnx("run", small, "--bits", "4", "--recipe", recipe, "--preprocess", "zero-one",
                   "--keep-float", "Gemm", "--out", "out")  # fmt: skip
    assert done.code in {0, 1}, done.err
    report = json.loads(Path("out/report.json").read_text())
    assert report["bits"]["keep_float"] == ["Gemm"]
    assert report["bits"]["bits_for"] == ["Conv=w8a8"]
    assert "--keep-float Gemm --bits-for Conv=w8a8" in report["command"]
    proto = onnx.load("out/small.w4a4.onnx")
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    (gemm,) = [node for node in proto.graph.node if node.op_type == "Gemm"]
    assert kinds[gemm.input[1]] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.INT8 in kinds.values(), "the Conv's weights, of 8 bits"
    assert onnx.TensorProto.INT4 not in kinds.values()
    checked = dfqonnx("validate", small, "out/small.w4a4.onnx", "--json")
    gates = {gate["rule"]: gate for gate in json.loads(checked.out)["gates"]}
    assert gates["every quantized Conv, Gemm and MatMul runs on integers"]["holds"] is True


def test_a_node_that_is_not_there_is_refused_before_anything_slow(
    dfqonnx: Run, small: Path
) -> None:
    for command in ("run", "inspect"):
        done = dfqonnx(command, small, "--keep-float", "Gmem", "--preprocess", "zero-one")
        assert done.code == 2
        assert "did you mean 'Gemm'" in done.err
