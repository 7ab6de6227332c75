"""The comparison with real data: who sees which input, what the page says, what is left out."""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAMES = ("task", "speech", "comparison_page", "tasks")


@pytest.fixture
def realdata(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(root / "pipelines" / "benchmarks")
    return {name: importlib.import_module(f"realdata.{name}") for name in NAMES}


def test_no_network_is_tested_on_an_input_that_calibrated_its_file(
    realdata: dict[str, Any], tmp_path: Path
) -> None:
    tasks = realdata["tasks"].read_tasks(tmp_path)
    assert [task.name for task in tasks] == list(realdata["tasks"].ORDER)
    for task in tasks:
        for fold in task.folds:
            assert not set(fold.calibration) & set(fold.test), task.name
        assert len(set(task.tested)) == len(task.tested) >= 12, task.name


def test_a_line_of_text_calibrates_in_no_direction_if_it_is_tested(
    realdata: dict[str, Any], tmp_path: Path
) -> None:
    (task,) = (t for t in realdata["tasks"].read_tasks(tmp_path) if t.name == "PP-OCR cls")
    (fold,) = task.folds
    assert not {place // 2 for place in fold.calibration} & {place // 2 for place in fold.test}


def test_both_parts_of_the_speech_share_no_sentence_and_no_voice(realdata: dict[str, Any]) -> None:
    speech = realdata["speech"]
    for first, second in (speech.SENTENCES, speech.VOICES):
        assert not set(first) & set(second)


def test_power_that_no_input_changes_is_no_signal(realdata: dict[str, Any]) -> None:
    values = [1.0, 3.0, 5.0, 7.0]  # variance 5
    teacher = [(np.array([[1000.0 + v]]), np.array([[v]])) for v in values]
    student = [(np.array([[1000.5 + v]]), np.array([[v]])) for v in values]  # noise 0.25, then 0
    found = realdata["task"].output_levels(teacher, student)
    assert found["SQNR"] == pytest.approx(10 * math.log10(5 / 0.25), rel=1e-12)
    assert found["noise"] == pytest.approx(10 * math.log10(0.25), rel=1e-12)


def record(page: Any, method: str, value: float, **more: Any) -> Any:
    base = page.Record(
        network="DNSMOS", method=method, kind="values", reads="speech", judged="MAE", less=True,
        tested=60, figures={"MAE": value}, seconds=9.6, size=0.31,
    )  # fmt: skip
    return replace(base, **more)


def test_less_error_is_better_and_the_page_says_where_we_are_behind(
    realdata: dict[str, Any], tmp_path: Path
) -> None:
    page = realdata["comparison_page"]
    records = [
        record(page, "ours, ptq", 0.03),
        record(page, "ours, default", 0.05),
        record(page, "quantize_static minmax", 0.04, needed="opset 17", calibrated=100),
        record(page, "quantize_static percentile", 0.4),
    ]
    path = tmp_path / "records.jsonl"
    page.write(path, records)
    assert page.read(path) == records
    text = page.render(page.merge([records[0], *records], ["DNSMOS"]))
    better = "at least as good as the better of the two with data on"
    assert f"- **ours, ptq**: {better} 1 of 1 networks\n" in text
    behind = "behind on DNSMOS (MAE 0.050 against 0.040)"
    assert f"- **ours, default**: {better} 0 of 1 networks; {behind}\n" in text
    assert "|  | quantize_static minmax | 0.040 |  | 100 | 10 | 0.310 | - | opset 17 |" in text


def test_what_a_report_told_is_what_it_measured_on_synthetic_inputs(
    realdata: dict[str, Any],
) -> None:
    measures = [
        {"name": "mae", "inputs": "synthetic", "student": 0.5},
        {"name": "mae", "inputs": "evaluation", "student": 0.25},
        {"name": "ssim", "inputs": "synthetic", "student": None},
    ]
    read_told = importlib.import_module("with_data").read_told
    assert read_told({"measures": measures}) == {"mae": 0.5}
    assert read_told({"agreement": {"sqnr_db": 20.5}}) == {"sqnr dB": 20.5}
    page = realdata["comparison_page"]
    text = page.render([record(page, "ours, ptq", 0.03, told={"mae": 0.5})])
    assert "| DNSMOS | ours, ptq | mae 0.50 | MAE 0.030 |" in text


def test_networks_whose_files_are_not_there_are_left_out_with_the_reason(
    realdata: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--shared", tmp_path, "--out", tmp_path / "out", "--quick", "--only", "candy"]
    monkeypatch.setattr(sys, "argv", ["with_data.py", *map(str, words)])
    importlib.import_module("with_data").main()
    told = capsys.readouterr().out
    assert "candy: left out: winml_style_candy.onnx is not in third_party/" in told
