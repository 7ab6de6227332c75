"""`dfqonnx.quantize` and `dfqonnx.testing`: the command line's power from Python."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import dfqonnx
from dfqonnx import errors
from dfqonnx.cli.compare import compare as compare_command
from dfqonnx.cli.run import run as command
from dfqonnx.cli.synth import synth as synth_command
from dfqonnx.cli.validate import validate as validate_command
from dfqonnx.core.context import RunContext
from dfqonnx.report.environment import describe_environment
from dfqonnx.testing import AccuracyNotJudged, InconclusiveGate, assert_quantized
from dfqonnx.workflows.gpu_utilization import describe_gpu, sample_utilization
from tests.cli.networks import balanced_classifier, colored_images, logits_of

RECIPE = dfqonnx.Recipe(
    name="quick",
    synthesis=dfqonnx.SynthesisConfig(source="dead-leaves", images=64),
    distillation=dfqonnx.DistillationConfig(steps=2, batch_size=16, holdout_images=8),
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("api") / "small.onnx"
    balanced_classifier(path)
    return path


@pytest.fixture(scope="module")
def result(teacher: Path) -> dfqonnx.Result:
    return dfqonnx.quantize(
        teacher,
        "w4a8",
        preprocess="zero-one",
        recipe=RECIPE,
        gates=["size<=1000x", dfqonnx.parse_gate("drop<=1")],
        out=teacher.parent / "out",
    )


def test_a_result_holds_report_and_paths(result: dfqonnx.Result, teacher: Path) -> None:
    assert result.student == teacher.parent / "out" / "small.w4a8.onnx"
    assert all(path.is_file() for path in result.files)
    assert result.student in result.files
    assert result.report.bits is not None
    assert (result.report.bits.weights, result.report.bits.activations) == (4, 8)
    assert result.verdict == "inconclusive"  # no labels for the drop
    assert result.passed
    assert result.failures == ()


def test_a_result_says_where_it_trained(result: dfqonnx.Result) -> None:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    told = result.report.environment["device"]
    assert told is None if gpu is None else told.startswith(gpu)


def test_a_gpu_is_told_by_its_name_and_the_processor_by_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    assert describe_gpu(RunContext(device="cuda"), None) == "some GPU"
    told = describe_gpu(RunContext(device="cuda"), 63.4)
    assert told == "some GPU, 63 % busy with images and training"
    assert describe_gpu(RunContext(), None) is None
    assert describe_environment("some GPU")["device"] == "some GPU"


def test_utilization_is_the_mean_of_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool, ready = tmp_path / "nvidia-smi", tmp_path / "ready"
    tool.write_text(f"#!/bin/sh\necho 40\necho 61\n: > {ready}\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with sample_utilization(RunContext(device="cuda")) as found:
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert found.samples == [40, 61]
    assert found.mean == 50.5


def test_without_that_tool_no_utilization_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for device in ("cpu", "cuda"):
        with sample_utilization(RunContext(device=device)) as found:
            pass
        assert found.mean is None


def test_a_result_is_json_and_can_be_read_back_without_a_pickle(result: dfqonnx.Result) -> None:
    content = json.loads(result.to_json())
    assert content == result.to_dict()
    assert content["student"] == str(result.student)
    assert content["report"] == json.loads((result.folder / "report.json").read_text())
    again = dfqonnx.Result.read(result.folder)
    assert again.to_dict() == content
    pickles = [path for path in result.files if path.read_bytes()[:2] == pickle.dumps(0)[:2]]
    assert not pickles
    with np.load(result.folder / "synthetic" / "images.npz", allow_pickle=False) as images:
        assert images["x"].dtype == np.uint8


def test_a_gate_that_fails_raises_nothing_and_is_named(teacher: Path, tmp_path: Path) -> None:
    found = dfqonnx.quantize(
        str(teacher),
        4,
        preprocess=dfqonnx.read_preprocess("zero-one"),
        recipe=RECIPE,
        gates=["size<=0.0001x"],
        out=str(tmp_path / "out"),
    )
    assert not found.passed
    assert [gate.rule for gate in found.failures] == ["size<=0.0001x"]
    assert (tmp_path / "out" / "junit.xml").is_file()


def test_without_out_the_folder_is_named_after_model_and_bits(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = dfqonnx.quantize(teacher, preprocess="zero-one", recipe=RECIPE)
    assert found.folder == Path("small-w4a4")
    assert (tmp_path / "small-w4a4" / "small.w4a4.onnx").is_file()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"bits": "w1a4"}, "not supported"),
        ({"gates": ["drp<=1"]}, "did you mean 'drop'"),
        ({"recipe": "defalt"}, "did you mean 'default'"),
        ({"preprocess": "imagnet"}, "did you mean 'imagenet'"),
        ({"budget": "soon"}, "write 30s, 10m or 1h"),
        ({"eval_data": "none.npz"}, "no such file"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    teacher: Path, tmp_path: Path, wrong: dict[str, object], words: str
) -> None:
    arguments = {"recipe": RECIPE, "out": tmp_path / "out", **wrong}
    with pytest.raises(dfqonnx.UsageError, match=words):
        dfqonnx.quantize(teacher, **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_quantize_takes_everything_that_the_command_takes() -> None:
    ours = set(inspect.signature(dfqonnx.quantize).parameters)
    shown = {
        "dry_run",
        "quiet",
        "verbose",
        "as_json",
        "file",
    }  # how the command line shows, not what is done
    theirs = {name.replace("gate", "gates") if name == "gate" else name
              for name in inspect.signature(command).parameters}  # fmt: skip
    assert theirs - shown <= ours


def test_a_file_that_keeps_its_rules_passes_and_gives_its_report(
    result: dfqonnx.Result, teacher: Path
) -> None:
    with pytest.warns(AccuracyNotJudged, match="no rule"):
        report = assert_quantized(result.student, teacher=teacher, gates=["size<=1000x"])
    assert report.agreement.synthetic is not None


def test_a_file_that_breaks_a_rule_fails_with_every_rule_listed(
    result: dfqonnx.Result, teacher: Path
) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_quantized(
            result.student, teacher=teacher, gates=["float_nodes<=99", "size<=0.0001x", "drop<=1"]
        )
    head, first, *rest = str(caught.value).splitlines()
    assert head.startswith(f"{result.student} fails 1 of 8 gates (teacher {teacher})")
    assert first.split()[:2] == ["FAILS", "size<=0.0001x"]
    outcomes = {line.split()[0] for line in rest[:7] if "not slower" not in line}
    assert outcomes == {"holds", "inconclusive"}


def test_a_rule_that_cannot_be_decided_warns_or_with_strict_fails(
    result: dfqonnx.Result, teacher: Path
) -> None:
    with pytest.warns(InconclusiveGate, match="drop<=1: labeled images are needed"):
        assert_quantized(result.student, teacher=teacher, gates=["drop<=1"])
    with pytest.raises(AssertionError, match="inconclusive"):
        assert_quantized(result.student, teacher=teacher, gates=["drop<=1"], strict=True)


def test_labels_decide(result: dfqonnx.Result, teacher: Path, tmp_path: Path) -> None:
    x = colored_images(200)
    y = logits_of(teacher, x).argmax(1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = assert_quantized(
            result.student,
            teacher=teacher,
            gates=["drop<=60"],
            eval_data=tmp_path / "data.npz",
        )
    assert report.drop is not None
    assert report.drop.points.n == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bits": "w1a4"}, "bits"),
        ({"budget": "soon"}, "budget: cannot read"),
        ({"budget": 3}, "budget 3s: too short"),
        ({"seed": -1}, "seed -1: must be 0 or more"),
        ({"eval_data": "none.npz"}, "eval_data none.npz: no such file"),
        ({"images": "none"}, "images none: no such file"),
        ({"gates": ["drop<<1"]}, "gate"),
        ({"strict_ends": 11}, "strict_ends"),
        ({"image_size": "axb"}, "image_size"),
        ({"inputs": ["x"]}, "inputs"),
    ],
)
def test_errors_name_parameters_and_on_the_command_line_options(
    teacher: Path, tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(dfqonnx.UsageError, match=words) as caught:
        dfqonnx.quantize(teacher, recipe=RECIPE, out=tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert "--" not in str(caught.value)
    assert errors.name_parameters(caught.value.message) == str(caught.value)


def test_commands_in_a_message_stay_what_they_are() -> None:
    message = "--images x: empty; try dfqonnx synth --out images, or pip install --upgrade dfqonnx"
    assert str(dfqonnx.UsageError(message)) == message.removeprefix("--")


def test_a_result_shows_itself_in_a_line_and_in_a_card(result: dfqonnx.Result) -> None:
    line = repr(result)
    assert len(line) < 300
    assert str(result.folder) in line
    assert result.verdict in line
    card = result._repr_html_()
    assert result.verdict in card
    assert f'href="{(result.folder / "report.html").as_posix()}"' in card
    assert "weights 4, activations 8" in card
    assert "<script" not in card
    assert len(repr(result.report)) < 200


def test_a_card_shows_names_of_strangers_as_text(result: dfqonnx.Result, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    card = dfqonnx.Result(folder, result.report)._repr_html_()
    assert "<img" not in card
    assert "href" not in card  # there is no page in that folder


def test_the_steps_are_functions(
    teacher: Path, result: dfqonnx.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = dfqonnx.synthesize(teacher, count=8, recipe=RECIPE, preprocess="zero-one")
    assert images.out == Path("small-images.npz")
    with np.load(images.out) as archive:
        assert len(archive["x"]) == images.count == 8
    report = dfqonnx.evaluate(teacher, result.student, gates=["size<=1000x"], out="proof")
    assert (tmp_path / "proof" / "report.html").is_file()
    assert {gate.rule: gate.holds for gate in report.gates}["size<=1000x"] is True
    table = dfqonnx.compare([result.folder, result.student], out="compare.html")
    assert [student.report is not None for student in table.students] == [True, True]
    assert (tmp_path / "compare.html").is_file()
    assert "small.onnx" in repr(table)


@pytest.mark.parametrize(
    ("function", "command", "renamed"),
    [
        (dfqonnx.synthesize, synth_command, {"n": "count"}),
        (dfqonnx.evaluate, validate_command, {"gate": "gates"}),
        (dfqonnx.compare, compare_command, {"targets": "students"}),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_steps_take_everything_that_their_commands_take(
    function: Callable[..., object], command: Callable[..., object], renamed: dict[str, str]
) -> None:
    ours = set(inspect.signature(function).parameters)
    shown = {
        "quiet",
        "verbose",
        "as_json",
        "file",
        "first",
        "second",
    }  # how the command line shows and asks
    theirs = {renamed.get(name, name) for name in inspect.signature(command).parameters}
    assert theirs - shown <= ours
