"""`dfqonnx convert`: what is written, what is said, and what is refused without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from dfqonnx.targets.profile import TARGETS
from tests.cli.conftest import Run
from tests.targets.made import Made


@pytest.fixture
def student(tmp_path: Path) -> Path:
    """A student of four bits for the default target."""
    return Made(TARGETS["onnxruntime-cpu"], "residual", "w4a4", tmp_path).path


def test_a_converted_file_lies_beside_the_old_one(dfqonnx: Run, student: Path) -> None:
    done = dfqonnx("convert", student, "--target", "portable")
    assert done.code == 0, done.err
    out = student.with_name("student-portable.onnx")
    assert f"Wrote {out} for portable" in " ".join(done.out.split())
    assert onnx.load(out).opset_import[0].version == 13
    again = dfqonnx("convert", student, "--target", "portable", "--json")
    assert json.loads(again.out)["bytes"] == out.stat().st_size


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--target", "onnxruntime-qnn"], 3, "train for it: --bits w4a8"),
        (["--target", "portabel"], 2, "did you mean 'portable'"),
        (["--target", "portable", "--out", "there"], 2, "give NAME.onnx"),
        (["--target", "portable", "--out", "student.onnx"], 2, "is the file itself"),
        (["--target", "portable", "--out", "net.onnx"], 2, "not from dfqonnx"),
    ],
)
def test_a_refusal_writes_nothing(
    dfqonnx: Run, student: Path, options: list[str], code: int, words: str, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = dfqonnx("convert", student, *options)
    assert done.code == code
    assert words in " ".join(done.err.split())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
