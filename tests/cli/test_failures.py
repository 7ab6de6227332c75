"""Errors on their way out: one message, the right code, no traceback."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from dfqonnx import errors
from dfqonnx.cli.failures import guard

OFFENCE = errors.Offense("n1", "Foo", "unknown", "export again")
CASES = [
    (errors.UsageError("bad flag"), 2, "bad flag"),
    (errors.UnsupportedModel("no", [OFFENCE]), 3, "n1 (Foo): unknown; export again"),
    (errors.EnvironmentProblem("no runtime"), 4, "no runtime"),
    (errors.InternalError("promise broken"), 5, "promise broken"),
    (OSError(errno.ENOSPC, "No space left on device", "/out/a"), 4, "free some space"),
    (PermissionError(errno.EACCES, "Permission denied", "/out"), 4, "/out: Permission denied"),
    (MemoryError(), 4, "out of memory"),
    (KeyboardInterrupt(), 130, "interrupted; no partial file is left"),
]


def thrower(problem: BaseException) -> object:
    def throw() -> None:
        raise problem

    return throw


@pytest.mark.parametrize(("problem", "code", "words"), CASES, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_each_problem_has_its_code_and_one_message(
    problem: BaseException,
    code: int,
    words: str,
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert guard(thrower(problem), as_json=as_json) == code
    out, err = capsys.readouterr()
    assert out == (err if as_json else ""), "JSON on both, so that a pipe gets it too"
    assert "Traceback" not in err
    if as_json:
        assert json.loads(err)["error"]["exit_code"] == code
        assert words in json.loads(err)["error"]["message"]
    else:
        assert err.startswith("Error: ")
        assert err.count("Error:") == 1
        assert words in err


def test_every_offending_node_is_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    guard(thrower(errors.UnsupportedModel("no", [OFFENCE, OFFENCE])), as_json=True)
    offenses = json.loads(capsys.readouterr().err)["error"]["offenses"]
    assert (
        offenses == [{"node": "n1", "op": "Foo", "reason": "unknown", "advice": "export again"}] * 2
    )


def test_many_nodes_with_one_fault_share_a_line_and_the_json_has_them_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    many = [errors.Offense(f"n{i}", "Foo", "unknown") for i in range(100)]
    problem = errors.UnsupportedModel("no", [*many, errors.Offense("m", "Bar", "odd")])
    guard(thrower(problem), as_json=False)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  - 100 nodes (Foo): unknown: n0, n1, n2, n3, n4, n5, n6, n7, ... (--json names all)",
        "  - m (Bar): odd",
    ]
    guard(thrower(problem), as_json=True)
    assert len(json.loads(capsys.readouterr().err)["error"]["offenses"]) == 101


def test_a_bug_becomes_one_message_and_its_traceback_is_saved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert guard(thrower(KeyError("conv")), as_json=False) == 5
    err = capsys.readouterr().err
    (saved,) = tmp_path.iterdir()
    assert str(saved) in err
    assert err.count("\n") == 1
    assert "KeyError: 'conv'" in saved.read_text()


@pytest.mark.parametrize(("value", "code"), [(None, 0), (0, 0), (1, 1), (130, 130)])
def test_what_a_command_returns_is_the_exit_code(value: int | None, code: int) -> None:
    assert guard(lambda: value, as_json=False) == code
