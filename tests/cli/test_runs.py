"""`dfqonnx runs`, and what is said of a run that can go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfqonnx.checkpoint import stages
from dfqonnx.checkpoint.cache_folder import CacheFolder
from dfqonnx.distill import trainer
from tests.cli.conftest import Run

RECIPE = """about: quick
synthesis: {source: dead-leaves, images: 64}
distillation: {steps: 8, batch_size: 16, holdout_images: 8}
"""


@pytest.fixture
def interrupted(
    dfqonnx: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A run that was interrupted behind its third step."""
    (tmp_path / "quick.yaml").write_text(RECIPE)
    command = ["run", str(small), "--recipe", "quick.yaml", "--preprocess", "zero-one"]
    monkeypatch.setattr(stages, "MOST_SECONDS", 0.0)
    step = trainer.Replica.step

    def stop(self: trainer.Replica, done: float, done_after: float) -> float:
        if done >= 3 / 8:
            raise KeyboardInterrupt
        return step(self, done, done_after)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Replica, "step", stop)
        done = dfqonnx(*command)
    assert done.code == 130
    assert done.err.splitlines()[-1] == (
        "Error: interrupted; no partial file is left; the same command continues at step 3 of 8 of"
        " distill"
    )
    return command


def test_the_same_command_goes_on_and_says_so(
    dfqonnx: Run, interrupted: list[str], tmp_path: Path
) -> None:
    done = dfqonnx(*interrupted)
    assert done.code == 0, done.err
    assert "Continuing a run that stopped 1 s ago at step 3 of 8 of distill" in done.err or (
        " s ago at step 3 of 8 of distill" in done.err
    )
    assert (tmp_path / "small-w4a4" / "report.json").is_file()
    assert [kept.is_run for kept in CacheFolder.find().kept()] == [False]  # images serve others


@pytest.mark.usefixtures("interrupted")
def test_runs_are_listed_and_cleaned(dfqonnx: Run) -> None:
    listed = dfqonnx("runs")
    assert listed.code == 0
    assert "small.onnx" in listed.out
    assert "at step 3 of 8 of distill" in listed.out
    found = json.loads(dfqonnx("runs", "--json").out)
    assert {kept["kind"] for kept in found} == {"run", "images"}
    (run,) = (kept for kept in found if kept["kind"] == "run")
    assert (run["bits"], run["target"], run["at_work"]) == ("w4a4", "onnxruntime-cpu", False)
    assert json.loads(dfqonnx("runs", "--json", "--older-than", "1h").out) == []
    assert "Removed 0 " in dfqonnx("runs", "--clean", "--older-than", "7d").out
    assert "Removed 1 " in dfqonnx("runs", run["key"][:6], "--clean").out
    assert "Removed 1 " in dfqonnx("runs", "--clean").out
    assert "Nothing is kept" in dfqonnx("runs").out


def test_mistakes_are_told(dfqonnx: Run) -> None:
    done = dfqonnx("runs", "abc")
    assert (done.code, "nothing is kept under this key" in done.err) == (2, True)
    done = dfqonnx("runs", "--older-than", "week")
    assert (done.code, "write 30m, 12h or 7d" in done.err) == (2, True)


def test_hostile_facts_of_a_run_are_shown_harmlessly(dfqonnx: Run) -> None:
    for number, text in enumerate(
        [
            "[1]", "{", '{"model": 3, "bits": "", "target": "", "recipe": ""}', "[" * 10**5,
            '{"model": "a\\u001b[2J", "bits": "w", "target": "", "recipe": "", "stage": "distill",'
            ' "step": 1e99}',
            '{"model": "a", "bits": "w4", "target": "", "recipe": "", "stage": "nowhere"}',
            '{"model": "\\u001b[2Jx", "bits": "w4", "target": "", "recipe": "", "saved": 5}',
        ]
    ):  # fmt: skip
        folder = CacheFolder.find().run(f"{number}{'0' * 20}")
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(text)
    done = dfqonnx("runs")
    assert done.code == 0, done.err
    assert "\x1b[2J" not in done.out
    assert done.out.count("run ") >= 7
