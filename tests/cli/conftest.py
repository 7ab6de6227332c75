"""Running the command line as a user does, and the files that users get wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from dfqonnx.cli.app import command_line
from tests.cli.networks import SMALL, WEIGHTS, model_from


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def dfqonnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `dfqonnx` in this process, in an empty folder, without a terminal."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        code = command_line([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A network of one Conv and one Gemm."""
    path = tmp_path / "small.onnx"
    onnx.save(model_from(SMALL, **WEIGHTS), path)
    return path
