"""Load and run a file in a runtime, in a process of its own, and read back what it says.

The runtime is given the file with the sizes of the inputs in it, since most compilers for devices
take no free axes. What kills the process, or takes too long, is a failure like any other.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from dfqonnx.foreign_text import printable
from dfqonnx.runtime.adapters.runtimes import RuntimeAdapter, RuntimePlace

TIME_LIMIT = 900.0  # seconds of the whole process
_STAGES = {
    "import": "cannot be started",
    "load": "does not load the file",
    "run": "loads the file but does not run it",
}
_TIMING = {"time", "end"}
_MOST = 400  # characters of a runtime's message


@dataclass(frozen=True)
class Layer:
    """A node as a runtime executes it."""

    names: tuple[str, ...]  # of the file's nodes in it
    op: str
    precision: str  # empty where the runtime does not say
    place: str  # the processor, and the number of the partition


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What a runtime did with a file."""

    version: str
    loads: bool
    runs: bool
    failure: str = ""  # in words, with what the runtime says; empty where only the timing failed
    outputs: tuple[tuple[NDArray[Any], ...], ...] = ()  # by output, then by input
    layers: tuple[Layer, ...] = ()
    executed: onnx.ModelProto | None = None  # the graph, where it writes one
    turns: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))  # float, quantized


def fix_sizes(proto: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """Return the model, external data included, with this shape of its input."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    sizes: dict[str, int] = {}
    dims = fixed.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, shape, strict=True):
        if dim.dim_param:
            sizes[dim.dim_param] = size
        dim.dim_value = size
    for value in fixed.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    del fixed.graph.value_info[:]
    return fixed


def execute(
    adapter: RuntimeAdapter,
    place: RuntimePlace,
    student: Path,
    x: NDArray[Any],
    *,
    teacher: Path | None = None,
    seconds: float = 60.0,
    turn_seconds: float = 2.0,
) -> Execution:
    """Run the file `student` on x (runs, batch, ...), for at most about `seconds`.

    With a `teacher`, both are timed in turns for `turn_seconds`, but for a runtime that emulates.
    """
    timed = teacher is not None and turn_seconds > 0 and not adapter.emulates
    with tempfile.TemporaryDirectory(prefix="dfqonnx-runtime-") as name:
        folder = Path(name)
        proto = onnx.load(student)
        for path in (student, teacher) if timed and teacher is not None else (student,):
            file = folder / ("student.onnx" if path is student else "teacher.onnx")
            onnx.save(fix_sizes(onnx.load(path), x.shape[1:]), file)
        job = {
            "runtime": adapter.name,
            "input": proto.graph.input[0].name,
            "dtype": str(x.dtype),
            "shape": x.shape,
            "seconds": seconds,
            "turn_seconds": turn_seconds if timed else 0,
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (folder / "inputs.bin").write_bytes(np.ascontiguousarray(x).tobytes())
        ended = _run([*place.command, str(folder), *place.after], folder)
        return _read(adapter, place, folder, ended)


def _run(command: Sequence[str], folder: Path) -> str:
    """Run a program to its end; return what went wrong in words, else nothing."""
    with (folder / "stdout").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"},
        )
    try:
        code = process.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return f"it had not ended after {TIME_LIMIT:.0f} seconds"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code == 0:
        return ""
    said = (folder / "stdout").read_text(encoding="utf-8", errors="replace")[-_MOST:]
    word = f"killed by signal {-code}" if code < 0 else f"ended with {code}"
    return f"{word}: {said}" if said.strip() else word


def _read(adapter: RuntimeAdapter, place: RuntimePlace, folder: Path, ended: str) -> Execution:
    file = folder / "result.json"
    result: dict[str, Any] = {"stage": "import"}
    if file.is_file():
        result = json.loads(file.read_text(encoding="utf-8"))
    stage = str(result["stage"])
    error = str(result.get("error", "")) or ended
    failure = ""
    if error and stage not in _TIMING:
        words = printable(re.sub(r"\s+", " ", error).strip(), most=_MOST)
        failure = f"{adapter.title} {_STAGES[stage]}: {words}"
    executed = folder / "executed.onnx"
    layers = result.get("layers", [])
    return Execution(
        version=str(result.get("version") or place.version),
        loads=stage not in {"import", "load"},
        runs=stage in _TIMING,
        failure=failure,
        outputs=tuple(_outputs(result, folder)),
        layers=tuple(Layer(tuple(names), *rest) for names, *rest in layers),
        executed=onnx.load(executed) if executed.is_file() and executed.stat().st_size else None,
        turns=np.array(result.get("turns", []), np.float64).reshape(-1, 2),
    )


def _outputs(result: Mapping[str, Any], folder: Path) -> Sequence[tuple[NDArray[Any], ...]]:
    found = []
    for index, output in enumerate(result.get("outputs", [])):
        flat = np.fromfile(folder / f"output-{index}.bin", output["dtype"])
        ends = np.cumsum([int(np.prod(shape)) for shape in output["shapes"]])
        parts = np.split(flat, ends[:-1])
        found.append(
            tuple(part.reshape(shape) for part, shape in zip(parts, output["shapes"], strict=True))
        )
    return found
