"""Commands that do their work without training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfqonnx.runtime import session as installed
from dfqonnx.workflows.doctor import Finding
from tests.cli.conftest import Run


def test_help_lists_every_command_and_ends_with_0(dfqonnx: Run) -> None:
    done = dfqonnx("--help")
    assert done.code == 0
    for command in ("run", "inspect", "validate", "audit", "compare", "report", "view", "doctor"):
        assert command in done.out


def test_without_a_command_the_help_is_shown(dfqonnx: Run) -> None:
    done = dfqonnx()
    assert done.code == 0
    assert "Usage: dfqonnx" in done.out


@pytest.mark.parametrize(
    "command", ["run", "inspect", "validate", "audit", "compare", "report", "view", "doctor"]
)
def test_every_command_and_option_explains_itself(dfqonnx: Run, command: str) -> None:
    done = dfqonnx(command, "--help")
    assert done.code == 0
    assert "\x1b" not in done.out, "no color when piped"
    assert done.err == ""


def test_the_version_is_said(dfqonnx: Run) -> None:
    assert dfqonnx("--version").out.startswith("dfqonnx 0.")


def test_inspect_prints_sites_with_bits_and_reasons(dfqonnx: Run, small: Path) -> None:
    short = dfqonnx("inspect", "--model", small, "--bits", "w4a8")
    assert short.code == 0, short.err
    assert len(short.out.splitlines()) <= 15
    assert "weights      2 of 4 bits" in short.out
    done = dfqonnx("inspect", "--model", small, "--bits", "w4a8", "--layers")
    assert done.code == 0, done.err
    assert done.err == ""
    assert "4 bit" in done.out
    assert "read by the last layer" in done.out


def test_inspect_gives_the_same_as_json(dfqonnx: Run, small: Path) -> None:
    done = dfqonnx("inspect", "--model", small, "--json")
    content = json.loads(done.out)
    assert content["bits"] == "w4a4"
    assert {line["kind"] for line in content["quantizers"]} >= {"activation", "weight"}


def test_audit_of_a_float_model_finds_its_nodes_in_float(dfqonnx: Run, small: Path) -> None:
    done = dfqonnx("audit", "--model", small)
    assert done.code == 0, done.err
    assert "Conv" in done.out
    assert dfqonnx("audit", "--model", small, "--strict").code == 1
    content = json.loads(dfqonnx("audit", "--model", small, "--json").out)
    assert {node["op"] for node in content["float_nodes"]} >= {"Conv", "Gemm"}


def test_targets_are_listed_and_an_unknown_one_is_refused(dfqonnx: Run, small: Path) -> None:
    done = dfqonnx("targets")
    assert done.code == 0, done.err
    listed = {each["name"]: each for each in json.loads(dfqonnx("targets", "--json").out)}
    assert {"onnxruntime-cpu", "onnxruntime-qnn", "openvino", "portable"} <= listed.keys()
    assert all(name in done.out for name in listed)
    assert listed["onnxruntime-qnn"]["least_bits"]["activations"]["bits"] == 8
    assert listed["tensorrt"]["evidence"] == "rules"
    for command in ("run", "inspect"):
        done = dfqonnx(command, "--model", small, "--target", "onnxruntim-cpu")
        assert done.code == 2
        assert "did you mean 'onnxruntime-cpu'" in done.err


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("onnxruntime-qnn", ["--bits", "4"], "--bits w4a4: activations of 4 bits"),
        ("onnxruntime-qnn", ["--bits", "8", "--bits-for", "*=w8a6"], "w8a6: activations of 6"),
        ("stm32", ["--bits", "w4a8"], "weights of 4 bits are none for --target stm32"),
        ("stm32", ["--bits", "8", "--strict-ends", "4"], "--strict-ends 4: weights of 4 bits"),
    ],
)
def test_widths_that_a_target_has_no_form_for_are_refused_with_what_it_has(
    dfqonnx: Run, small: Path, target: str, options: list[str], words: str
) -> None:
    for command in ("run", "inspect"):
        done = dfqonnx(command, "--model", small, "--target", target, *options)
        assert done.code == 2
        assert words in done.err
        assert "; use --bits w" in done.err


def test_a_run_says_in_one_line_what_narrow_activations_gain(
    dfqonnx: Run, small: Path, tmp_path: Path
) -> None:
    said = "W4A8 (--bits w4a8) has the same bytes as W4A4"
    for bits, expected in (("4", 1), ("w4a8", 0), ("8", 0)):
        done = dfqonnx("run", small, "--bits", bits, "--dry-run", "--out", tmp_path / bits)
        assert done.code == 0, done.err
        assert " ".join((done.out + done.err).split()).count(said) == expected


def test_doctor_finds_this_machine_ready(dfqonnx: Run) -> None:
    done = dfqonnx("doctor")
    assert done.code == 0, done.out
    assert "This machine is ready for a run." in done.out
    assert json.loads(dfqonnx("doctor", "--json").out)["ready"] is True


def test_doctor_says_no_and_ends_with_4_when_something_is_missing(
    dfqonnx: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding("ONNX Runtime", "missing", False, "pip install 'dfqonnx[cpu]'")
    monkeypatch.setattr("dfqonnx.workflows.doctor.examine", lambda *, quick: (finding,))
    done = dfqonnx("doctor")
    assert done.code == 4
    assert "pip install 'dfqonnx[cpu]'" in done.out
    assert "not ready" in done.out


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "pip install 'dfqonnx[cpu]'"),
        (
            {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"},
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime",
        ),
    ],
    ids=["none", "both"],
)
def test_no_or_two_runtimes_stop_a_run_with_the_command_that_repairs_it(
    dfqonnx: Run,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, str],
    words: str,
) -> None:
    monkeypatch.setattr(installed, "installed_runtimes", lambda: found)
    done = dfqonnx("run", "--model", small)
    assert done.code == 4
    assert words in done.err


def test_the_module_runs_as_the_command(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dfqonnx", "run", "--model", "none.onnx"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "Error: model none.onnx: no such file\n"
