"""Bad input: the right exit code, one clear message, no traceback, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.conftest import Done, Run
from tests.cli.networks import SMALL, WEIGHTS, model_from

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(200)


def onnx_file(text: str, **weights: tuple[int, ...]) -> Callable[[Path], None]:
    return lambda path: onnx.save(model_from(text, **weights), path)


def truncated(path: Path) -> None:
    data = model_from(SMALL, **WEIGHTS).SerializeToString()
    path.write_bytes(data[: len(data) // 2])


NO_CONV = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu(x) }"""
INTEGER_INPUT = SMALL.replace("float[N,3,8,8] x", "int64[N,3,8,8] i").replace(
    "a = Conv", "x = Cast<to=1>(i)\n    a = Conv"
)
UNSUPPORTED = SMALL.replace("(x, w, b)", "(n, w, b)").replace(
    "a = Conv", "n = RandomNormalLike(x)\n    a = Conv"
)
FOREIGN = SMALL.replace('"": 17', '"": 17, "com.example": 1').replace(
    "r = Relu(a)", "r = com.example.Magic(a)"
)

MODELS: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "missing": (lambda path: None, 2, "no such file"),
    "a folder": (lambda path: path.mkdir(), 2, "folder"),
    "empty": (lambda path: path.touch(), 2, "empty"),
    "truncated": (truncated, 2, "truncated"),
    "a JPEG": (lambda path: path.write_bytes(JPEG), 2, "JPEG"),
    "text": (lambda path: path.write_text("hello, world\n" * 9), 2, "not a"),
    "without Conv": (onnx_file(NO_CONV), 3, "no Conv, Gemm or MatMul"),
    "with integer input": (onnx_file(INTEGER_INPUT, **WEIGHTS), 3, "INT64"),
    "with an unknown operator": (onnx_file(UNSUPPORTED, **WEIGHTS), 3, "RandomNormalLike"),
    "with an operator of a foreign domain": (onnx_file(FOREIGN, **WEIGHTS), 3, "Magic"),
}


def assert_one_message(done: Done, code: int, words: str) -> None:
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.err
    assert words in done.err


@pytest.mark.parametrize("command", ["run", "inspect"])
@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_cannot_be_used_is_refused(
    dfqonnx: Run, tmp_path: Path, case: str, command: str
) -> None:
    make, code, words = MODELS[case]
    path = tmp_path / "model.onnx"
    make(path)
    before = set(tmp_path.iterdir())
    assert_one_message(dfqonnx(command, "--model", path), code, words)
    assert set(tmp_path.iterdir()) == before


FLAGS = {
    ("--bits", "1"): "weight width 1 is not supported; choose 2 to 8",
    ("--bits", "9"): "choose 2 to 8",
    ("--bits", "four"): "cannot read 'four'",
    ("--bits", "w4a1"): "activation width 1",
    ("--budget", "soon"): "write 30s, 10m or 1h",
    ("--budget", "1s"): "too short",
    ("--seed", "-1"): "must be 0 or more",
    ("--seed", "x"): "--seed",
    ("--strict-ends", "1"): "choose 2 to 8",
    ("--preprocess", "imagnet"): "did you mean 'imagenet'",
    ("--preprocess", "none.yaml"): "no such file",
    ("--recipe", "defualt"): "did you mean 'default'",
    ("--recipe", "none.yaml"): "no such file",
    ("--device", "tpu"): "--device",
    ("--target", "toaster"): "--target",
    ("--weight-storage", "int5"): "--weight-storage",
    ("--eval-data", "none.npz"): "no such file",
    ("--wrong", "1"): "--wrong",
}


@pytest.mark.parametrize("flag", FLAGS, ids=" ".join)
def test_a_wrong_flag_is_a_usage_error(dfqonnx: Run, small: Path, flag: tuple[str, str]) -> None:
    assert_one_message(dfqonnx("run", "--model", small, *flag), 2, FLAGS[flag])


def test_a_missing_option_and_an_unknown_command_are_usage_errors(dfqonnx: Run) -> None:
    assert_one_message(dfqonnx("run"), 2, "--model")
    assert_one_message(dfqonnx("rnu"), 2, "rnu")


def test_with_json_an_error_is_json_on_stderr(dfqonnx: Run, tmp_path: Path) -> None:
    for arguments, code in (
        (("run", "--model", "none.onnx", "--json"), 2),
        (("run", "--json"), 2),
        (("inspect", "--model", "none.onnx", "--json"), 2),
    ):
        done = dfqonnx(*arguments)
        assert done.code == code
        assert done.out == done.err, "a pipe gets it too"
        assert json.loads(done.err)["error"]["exit_code"] == code


EVAL: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "images of another size": (
        {"x": np.zeros((4, 16, 16, 3), np.uint8), "y": np.zeros(4, np.int64)},
        "16",
    ),
    "float images": (
        {"x": np.full((4, 8, 8, 3), -1, np.float32), "y": np.zeros(4, np.int64)},
        "uint8",
    ),
    "labels out of range": (
        {"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.array([0, 1, 2, 4])},
        "4",
    ),
    "negative labels": (
        {"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.array([0, 1, 2, -1])},
        "-1",
    ),
    "fewer labels than images": (
        {"x": np.zeros((4, 8, 8, 3), np.uint8), "y": np.zeros(3, np.int64)},
        "3",
    ),
    "labels without images": ({"y": np.zeros(4, np.int64)}, "x"),
    "no images": ({"x": np.zeros((0, 8, 8, 3), np.uint8), "y": np.zeros(0, np.int64)}, "0"),
}


@pytest.mark.parametrize("case", EVAL)
def test_evaluation_data_that_does_not_fit_is_refused_before_training(
    dfqonnx: Run, small: Path, tmp_path: Path, case: str
) -> None:
    arrays, words = EVAL[case]
    data = tmp_path / "data.npz"
    np.savez(data, **arrays)
    done = dfqonnx("run", "--model", small, "--eval-data", data)
    assert_one_message(done, 2, words)
    assert "data.npz" in done.err
    assert {p.name for p in tmp_path.iterdir()} == {"small.onnx", "data.npz"}


def test_evaluation_data_of_another_format_is_refused(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.npz"
    data.write_bytes(JPEG)
    assert_one_message(dfqonnx("run", "--model", small, "--eval-data", data), 2, "expected an npz")


def test_an_output_folder_that_cannot_be_is_refused_before_anything_slow(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    done = dfqonnx("run", "--model", small, "--out", small / "below")
    assert_one_message(done, 2, "is a file, not a folder")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    done = dfqonnx("run", "--model", small, "--out", tmp_path / "mine")
    assert_one_message(done, 2, "thesis.txt")
    if Path("/proc/self").exists():
        done = dfqonnx("run", "--model", small, "--out", "/proc/out")
        assert_one_message(done, 4, "not writable")
