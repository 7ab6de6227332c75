"""What a run says before, while and after it works, and where it puts the model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnxruntime
import pytest

from dfqonnx.cli.show import LiveDisplay
from dfqonnx.core.run_outline import RunOutline, StageOutline, describe_seconds
from dfqonnx.core.staging import STAGING
from tests.cli.conftest import Done, Run

FAST = """about: quick
synthesis: {source: dead-leaves, images: 64}
distillation: {steps: 0, holdout_images: 8}
"""


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    path = tmp_path / "fast.yaml"
    path.write_text(FAST)
    return path


def run(dfqonnx: Run, small: Path, fast: Path, *more: str | Path) -> Done:
    return dfqonnx("run", small, "--recipe", fast, "--preprocess", "zero-one", *more)


def test_a_dry_run_is_a_plan_with_stages_files_and_what_rules_can_be_decided(
    dfqonnx: Run, small: Path, fast: Path, tmp_path: Path
) -> None:
    rules = ("--gate", "drop<=1", "--gate", "agreement>=0.97", "--gate", "size<=0.9x")
    done = run(dfqonnx, small, fast, "--dry-run", *rules)
    assert done.code == 0, done.err
    for words in (
        "time         about",
        "synthesize make images",
        "images       64 synthetic ones",
        "memory       about",
        "small.w4a4.onnx, report.html",
        "junit.xml",
        "drop<=1: CANNOT be decided; it needs labels",
        "agreement>=0.97: CANNOT be decided; 8 images can prove 67.6 % at most; about 128 would",
        "size<=0.9x: can be decided",
        "A run would write small-w4a4/.",
    ):
        assert words in done.out
    assert "distill" not in done.out, "nothing is trained"
    assert {p.name for p in tmp_path.iterdir()} == {"small.onnx", "fast.yaml"}
    outline = json.loads(run(dfqonnx, small, fast, "--dry-run", "--json").out)["outline"]
    assert [stage["name"] for stage in outline["stages"]] == [
        "synthesize", "initialize", "export", "evaluate",
    ]  # fmt: skip


def test_the_first_lines_say_what_will_happen_and_the_table_is_short(
    dfqonnx: Run, small: Path, fast: Path
) -> None:
    done = run(dfqonnx, small, fast, "--bits", "int8")
    lines = done.err.splitlines()
    assert lines[0].startswith(f"Quantizing {small} (0.0 MB) to w8a8: weights of 8 bits")
    assert "preprocessing zero-one; no data: images are synthesized" in lines[1]
    assert "synthesize (make images), initialize (set ranges), export" in lines[2]
    assert "It takes about" in lines[3]
    assert "replaced" not in done.err
    again = run(dfqonnx, small, fast, "--bits", "int8", "--verbose")
    assert "small-w8a8/ holds the result of 2" in again.err
    assert len(done.out.splitlines()) < len(again.out.splitlines()) - 5
    for words in ("size ", "float nodes", "--verbose shows"):
        assert words in done.out
    for words in ("recipe ", "optimized session against file"):
        assert words in again.out
        assert words not in done.out
    assert run(dfqonnx, small, fast, "--quiet").err.count("Quantizing") == 0


def test_a_file_as_output_gets_the_model_and_its_folder_the_rest(
    dfqonnx: Run, small: Path, fast: Path, tmp_path: Path
) -> None:
    done = run(dfqonnx, small, fast, "--out", "made/net.w4.onnx")
    assert done.code in {0, 1}, done.err
    file, folder = tmp_path / "made" / "net.w4.onnx", tmp_path / "made" / "net.w4"
    assert "Wrote made/net.w4.onnx (" in done.out
    assert file.read_bytes() == (folder / "net.w4.onnx").read_bytes()
    onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    report = json.loads((folder / "report.json").read_text())
    assert report["student"]["path"] == "net.w4.onnx"
    assert {p.name for p in file.parent.iterdir()} == {"net.w4.onnx", "net.w4"}
    assert run(dfqonnx, small, fast, "--out", file, "--bits", "8").code in {0, 1}, "ours"
    assert file.read_bytes() == (folder / "net.w4.onnx").read_bytes()


def test_a_file_of_somebody_else_and_the_model_itself_are_not_replaced(
    dfqonnx: Run, small: Path, fast: Path, tmp_path: Path
) -> None:
    done = run(dfqonnx, small, fast, "--out", small)
    assert done.code == 2
    assert "is the float model itself" in done.err
    (tmp_path / "mine.onnx").write_bytes(b"mine")
    done = run(dfqonnx, small, fast, "--out", "mine.onnx")
    assert done.code == 2
    assert "no report in mine/ says that dfqonnx wrote it" in done.err
    assert (tmp_path / "mine.onnx").read_bytes() == b"mine"


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_says_that_the_earlier_result_is_kept(
    dfqonnx: Run, small: Path, fast: Path, tmp_path: Path, root: Path
) -> None:
    assert run(dfqonnx, small, fast, "--out", "out").code in {0, 1}
    before = (tmp_path / "out" / "report.json").read_bytes()
    fast.write_text(FAST.replace("steps: 0", "steps: 1000000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "dfqonnx", "run", str(small), "--recipe", str(fast),
         "--preprocess", "zero-one", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("distill"):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    try:
        err = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert last.startswith("Error: interrupted; no partial file is left; out/ still holds the")
    assert (tmp_path / "out" / "report.json").read_bytes() == before
    assert not list(tmp_path.glob(f"{STAGING}*"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_bar_shows_the_whole_and_stages_stand_under_it() -> None:
    clock = Clock()
    live = LiveDisplay(clock=clock)
    live.expect({"synthesize": 10.0, "distill": 30.0})
    live.start("synthesize", 10)
    clock.now = 5.0
    live.advance(5)
    whole, first = live.bars.tasks
    assert (whole.description, first.description) == ("whole run", "  make images")
    assert whole.completed == pytest.approx(100 * 5 / 40), "as planned: 5 s of 10 s and of 40 s"
    clock.now = 10.0
    live.start("distill", 100)
    clock.now = 25.0
    live.advance(50)
    assert [task.description for task in live.bars.tasks][2] == "  train"
    assert whole.fields["line"] == "62 %, 0:15 left"
    live.finish()
    assert whole.completed == whole.total


def test_the_time_left_follows_the_pace_and_not_the_plan() -> None:
    clock = Clock()
    live = LiveDisplay(clock=clock)
    live.expect({"synthesize": 10.0, "initialize": 10.0, "evaluate": 20.0})
    live.start("synthesize", 10)
    clock.now = 20.0  # twice as long as told
    live.advance(10)
    live.start("initialize", 4)
    whole = live.bars.tasks[0]
    assert whole.fields["line"] == "25 %, 1:00 left", "30 s to come, at half the pace"
    clock.now = 25.0
    live.advance(2)
    assert whole.fields["line"] == "36 %, 0:45 left", "half of the stage took 5 s; then 40 s"
    clock.now = 30.0
    live.start("distill", 10)  # nobody expected it
    clock.now = 40.0
    live.advance(5)
    assert whole.fields["line"] == "50 %, 0:40 left", "10 s, and 20 s that take half as long again"
    clock.now = 50.0
    live.start("evaluate", 2)
    clock.now = 60.0
    live.advance(1)
    assert whole.fields["line"] == "86 %, 0:10 left"


def test_every_target_but_the_images_takes_its_time_and_the_bar_knows() -> None:
    names = {"synthesize": 10.0, "initialize": 5.0, "evaluate": 5.0}
    stages = tuple(StageOutline(name=name, seconds=value) for name, value in names.items())
    outline = RunOutline(stages=stages, images=1, memory_mib=1.0, files=())
    assert outline.for_targets(3).seconds == 40
    assert outline.expected(1, of=1) == names
    clock = Clock()
    live = LiveDisplay(clock=clock)
    left = []
    for begun in range(3):
        live.expect(outline.expected(3 - begun, of=3))
        for name in list(names)[begun > 0 :]:
            live.start(name, 1)
            left.append(live.bars.tasks[0].fields["line"].rpartition(", ")[2])
            clock.now += names[name]
            live.advance(1)
    live.finish()
    assert left[1:] == ["0:30 left", "0:25 left", "0:20 left", "0:15 left", "0:10 left",
                        "0:05 left"]  # fmt: skip


def test_a_stage_that_is_skipped_is_not_waited_for() -> None:
    clock = Clock()
    live = LiveDisplay(clock=clock)
    live.expect({"synthesize": 10.0, "distill": 300.0, "evaluate": 10.0})
    live.start("synthesize", 1)
    clock.now = 10.0
    live.start("evaluate", 2)
    clock.now = 15.0
    live.advance(1)
    assert live.bars.tasks[0].fields["line"] == "75 %, 0:05 left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (3.4, "3 s"), (44, "45 s"), (100, "2 min"), (700, "12 min"), (9000, "2.5 h")],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert describe_seconds(seconds) == words
