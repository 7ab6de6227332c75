"""The default target's students against `quantize_static`'s W8A8 files: one interleaved run each.

    speed_against_static.py --models FOLDER --work FOLDER [--seconds 20] [--networks resnet20 ...]

takes the students of `target_matrix.py` (made here where they are not there yet) for the default
target at W8A8 and W4A8, lets ONNX Runtime's own quantizer make a W8A8 file of the same network
(QDQ, uint8 activations, int8 weights per channel, MinMax on the matrix's inputs), and times float
file, students and that file in turns in one process, batch 1 and one thread. Ratios are medians
over the turns, with quartiles. Run it on an idle machine: half a minute a network where students
are made. Ends with 1 where a student is slower than that file: where its upper quartile is below 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dfqonnx  # noqa: F401 - first: it switches ONNX Runtime's usage records off

# isort: split
import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import (  # type: ignore[import-untyped]
    quant_pre_process,
)
from runtimes.students import NETWORKS, MadeStudent, made_student, make_students

from dfqonnx.runtime.session import Session

CLASSIFIERS = ("resnet20", "wrn16", "mobilenetv1", "mobilenetv2", "efficientnet")
BITS = ("w8a8", "w4a8")
STATIC = "quantize_static w8a8"


class InputReader(CalibrationDataReader):  # type: ignore[misc]
    """Gives inputs (N, ...) to ONNX Runtime's calibration one by one."""

    def __init__(self, name: str, x: NDArray[np.float32]) -> None:
        self._feeds = iter([{name: x[k : k + 1]} for k in range(len(x))])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input by its name; None behind the last."""
        return next(self._feeds, None)


def make_static(teacher: Path, x: NDArray[np.float32], file: Path) -> None:
    """Let ONNX Runtime's quantizer write a W8A8 file."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(teacher), str(prepared), skip_symbolic_shape=True)
        name = Session(prepared).inputs[0].name
        quantize_static(
            str(prepared), str(file), InputReader(name, x), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip


def time_in_turns(files: dict[str, Path], x: NDArray[np.float32], seconds: float) -> Any:
    """Return the seconds of one run of every file, (turns, files)."""
    sessions = [Session(file) for file in files.values()]
    calls = [each.bound({each.inputs[0].name: x}) for each in sessions]
    for call in calls:
        _time(call)
    end = time.monotonic() + seconds
    turns: list[list[float]] = []
    while len(turns) < 9 or time.monotonic() < end:
        turns.append([_time(call) for call in calls])
    return np.array(turns)


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(name: str, options: argparse.Namespace) -> bool:
    """Print the ratios of a network; tell whether no student is slower."""
    network = NETWORKS[name]
    teacher = options.models / network.file
    wanted = {
        ("onnxruntime-cpu", bits): options.work / f"{name}.onnxruntime-cpu.{bits}" for bits in BITS
    }
    for _ in make_students(network, options.models, wanted):
        pass
    students = {bits: made_student(folder) for (_, bits), folder in wanted.items()}
    made = {bits: each for bits, each in students.items() if isinstance(each, MadeStudent)}
    x = made["w8a8"].inputs
    static = options.work / f"{name}.static.onnx"
    if not static.is_file():
        make_static(teacher, x, static)
    files = {"float": teacher, **{bits: each.file for bits, each in made.items()}, STATIC: static}
    times = time_in_turns(files, x[:1], options.seconds)
    good = True
    for index, file in enumerate(files):
        cells = []
        for other in ("float", STATIC):
            ratios = times[:, list(files).index(other)] / times[:, index]
            low, middle, high = np.percentile(ratios, (25, 50, 75))
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            good &= not (file in BITS and other == STATIC and high < 1)
        print(f"| {network.title} | {file} | {' | '.join(cells)} |", flush=True)
    return good


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--networks", nargs="+", default=CLASSIFIERS, choices=CLASSIFIERS)
    options = parser.parse_args(arguments)
    print(f"| network | file | times float | times {STATIC} |\n| --- | --- | --- | --- |")
    slower = [name for name in options.networks if not compare(name, options)]
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
