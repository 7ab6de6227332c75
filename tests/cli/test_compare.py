"""`dfqonnx compare`: several files, one teacher, one table, one page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfqonnx.config.commands import CompareConfig
from dfqonnx.core.input_format import PRESETS
from dfqonnx.errors import UsageError
from dfqonnx.report.html.comparison_page import render_comparison
from dfqonnx.workflows.compare import compare
from tests.cli.conftest import Run
from tests.cli.networks import SMALL, WEIGHTS, model_from
from tests.pages.conftest import EVIL


def damaged(path: Path, noise: float) -> Path:
    """The small network with noise on its first weight: a student of any origin."""
    model = model_from(SMALL, **WEIGHTS)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    shaken = weight + noise * np.random.default_rng(1).normal(size=weight.shape)
    tensor = numpy_helper.from_array(shaken.astype(np.float32), model.graph.initializer[0].name)
    model.graph.initializer[0].CopyFrom(tensor)
    onnx.save(model, path)
    return path


def spec(small: Path, *targets: Path) -> CompareConfig:
    return CompareConfig(students=targets, teacher=small, preprocess=PRESETS["zero-one"])


def test_every_file_meets_the_same_images_and_the_closest_agrees_most(
    small: Path,
    tmp_path: Path,
) -> None:
    near, far = damaged(tmp_path / "near.onnx", 0.001), damaged(tmp_path / "far.onnx", 1.0)
    league = compare(spec(small, far, small, near))
    found = {e.name: e.report.agreement.synthetic for e in league.students if e.report is not None}
    assert [entry.name for entry in league.students] == ["far", "small", "near"]
    shares = {name: share.value for name, share in found.items() if share is not None}
    assert shares["small"] == 1.0
    assert shares["far"] < shares["near"]
    assert {share.n for share in found.values() if share is not None} == {256}


def test_a_file_that_does_not_fit_gets_a_line_with_the_reason_and_the_others_are_compared(
    small: Path,
    tmp_path: Path,
) -> None:
    other = model_from(SMALL.replace("float[N,3,8,8] x", "float[N,3,9,9] x"), **WEIGHTS)
    onnx.save(other, tmp_path / "other.onnx")
    league = compare(spec(small, tmp_path / "other.onnx", small))
    assert "is not a student of" in league.students[0].problem
    assert league.students[1].report is not None
    assert "is not a student of" in render_comparison(league)


def test_equal_names_are_told_apart_and_names_stay_text(
    small: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    evil = EVIL.replace("/", "")
    first, second = damaged(tmp_path / "a" / "s.onnx", 0), damaged(tmp_path / "b" / "s.onnx", 0)
    third = damaged(tmp_path / f"{evil}.onnx", 0)
    league = compare(spec(small, first, second, third))
    assert len({entry.name for entry in league.students}) == 3
    assert evil not in render_comparison(league)


def test_the_command_prints_a_table_writes_a_page_and_speaks_json(
    dfqonnx: Run,
    small: Path,
    tmp_path: Path,
) -> None:
    student = damaged(tmp_path / "near.onnx", 0.001)
    words = ["compare", student, "--teacher", small, "--preprocess", "zero-one"]
    done = dfqonnx(*words, "--out", "page.html")
    assert done.code == 0
    assert "agreement" in done.out
    assert "near" in done.out
    assert re.search(r"float model +float +100.00 %.* 1.000 +1.00x", done.out)
    assert "Content-Security-Policy" in (tmp_path / "page.html").read_text()
    content = json.loads(dfqonnx(*words, "--json").out)
    assert content["schema"] == "dfqonnx.comparison/2"
    assert content["students"][0]["report"]["latency"]["threads"] == 1


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("taken.html", "is a folder; give the name of a file"),
        ("near.onnx/page.html", "is a file, not a folder"),
        ("near.onnx", "not the name of a page; end it with .html"),
    ],
)
def test_a_page_that_could_not_be_written_is_refused_before_anything_is_measured(
    dfqonnx: Run,
    small: Path,
    tmp_path: Path,
    out: str,
    why: str,
) -> None:
    student = damaged(tmp_path / "near.onnx", 0.001)
    (tmp_path / "taken.html").mkdir()
    before = student.read_bytes()
    done = dfqonnx("compare", student, "--teacher", small, "--out", out)
    assert done.code == 2
    assert why in done.err
    assert not done.out
    assert student.read_bytes() == before


def test_without_a_teacher_that_all_reports_name_one_is_asked_for(
    small: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match="give the float file with teacher"):
        compare(CompareConfig(students=(small,)))
    with pytest.raises(UsageError, match="at least one"):
        CompareConfig(students=())
