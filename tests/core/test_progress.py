"""What a run keeps of its progress: warnings, and the seconds of each stage."""

from __future__ import annotations

import pytest

from dfqonnx.core import progress as module
from dfqonnx.core.progress import RecordingProgress, SilentProgress


def test_warnings_are_kept_and_passed_on() -> None:
    first = RecordingProgress(SilentProgress())
    second = RecordingProgress(first)
    second.note("a note")
    second.warn("look here")
    assert first.warnings == second.warnings == ["look here"]


def test_a_stage_lasts_until_the_next_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 101.0, 103.0, 106.0, 110.0, 115.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(times))
    recording = RecordingProgress(SilentProgress())  # 100
    recording.start("synthesize", 10)  # 101
    recording.start("distill", 300)  # 103
    recording.start("distill", 200, done=50)  # 106: the budget allows fewer steps
    recording.start("export", 1)  # 110
    assert recording.seconds() == {"synthesize": 2.0, "distill": 7.0, "export": 5.0, "total": 15.0}
