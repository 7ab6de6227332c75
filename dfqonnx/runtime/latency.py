"""Speed of two files, interleaved in one process.

On a shared machine milliseconds drift; the ratio of neighbors does not. So the files take turns,
each turn gives one ratio, and the median ratio is quoted with its quartiles.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.runtime.session import Provider, Session

SLOW = 0.5  # seconds of both together: fewer turns, and one run is enough to warm up


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Medians over all turns."""

    teacher_ms: float
    student_ms: float
    speedup: float  # teacher over student, turn by turn
    low: float  # the lower quartile of the speedup
    high: float  # the upper quartile
    batch: int  # images in a run
    threads: int  # of the runtime
    turns: int = 1  # how many ratios the median and the quartiles are taken from


def measure_latency(
    teacher: Path,
    student: Path,
    x: NDArray[np.float32],
    *,
    threads: int = 1,
    seconds: float = 2.0,
    provider: Provider = "cpu",
) -> Latency:
    """Time both files on `x`, one batch unless the teacher fixes another, for about `seconds`."""
    sessions = [Session(path, threads=threads, provider=provider) for path in (teacher, student)]
    batch = sessions[0].batch or len(x)
    x = np.resize(x, (batch, *x.shape[1:]))
    calls = [session.bound({session.inputs[0].name: x}) for session in sessions]
    once = sum(_turn(call, 1) for call in calls)  # warms up as well
    slow = once > SLOW
    if not slow:
        once = sum(_turn(call, 5) for call in calls)
    runs = max(1, min(20, int(0.002 / once)))
    turns = int(np.clip(seconds / (once * runs), 3 if slow else 9, 400))
    times = np.array([[_turn(call, runs) for call in calls] for _ in range(turns)])
    return summarize_turns(times, batch=batch, threads=threads)


def summarize_turns(times: NDArray[np.float64], *, batch: int, threads: int) -> Latency:
    """Return the medians of seconds (turns, 2) of the float and the quantized file."""
    low, speedup, high = np.percentile(times[:, 0] / times[:, 1], (25, 50, 75))
    teacher_ms, student_ms = 1e3 * np.median(times, axis=0)
    return Latency(
        teacher_ms=float(teacher_ms),
        student_ms=float(student_ms),
        speedup=float(speedup),
        low=float(low),
        high=float(high),
        batch=batch,
        threads=threads,
        turns=len(times),
    )


def _turn(call: Callable[[], object], runs: int) -> float:
    """Return the seconds of one of `runs` calls in a row."""
    start = time.perf_counter()
    for _ in range(runs):
        call()
    return (time.perf_counter() - start) / runs
