"""Everything about one pair of files, measured in one go.

    teacher (float file) -- the same images -- student (quantized file, and the torch student)

Nothing here chooses or changes anything; it only measures.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.data.labeled import EvalData
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.file_size import FileFacts, measure_file
from dfqonnx.evaluation.outputs import Comparison, Outputs, compare_outputs
from dfqonnx.evaluation.parity import Parity, StudentOutputs, measure_parity
from dfqonnx.runtime.kernel_audit import Audit, audit_kernels
from dfqonnx.runtime.latency import Latency, measure_latency
from dfqonnx.runtime.session import Provider, Session, SessionValue, runtime_version

PARITY_IMAGES = 128
_BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """The whole measurement.

    Attributes:
        teacher: the float file.
        student: the quantized file.
        synthetic: on images without labels; None when there were none.
        evaluation: on labeled images; None when there were none.
        parity: three-way; None when the student file has no quantizers.
        audit: of the student.
        latency: None when not asked for.
        note: what was done to evaluation images to fit the model.
        runtime: version of ONNX Runtime.
        provider: where everything ran.
        class_names: in label order, as the evaluation data give them; empty where they do not.
    """

    teacher: FileFacts
    student: FileFacts
    synthetic: Comparison | None
    evaluation: Comparison | None
    parity: Parity | None
    audit: Audit
    latency: Latency | None
    note: str
    runtime: str
    provider: Provider
    class_names: tuple[str, ...] = ()

    @property
    def size_ratio(self) -> float:
        """Student bytes over teacher bytes."""
        return self.student.bytes / self.teacher.bytes


@dataclass(frozen=True)
class EvaluationData:
    """What the two files are compared on.

    Attributes:
        inputs: how pixels become tensors.
        pixels: images without labels, uint8 (N, H, W, C); None when there are none.
        data: labeled images; None when there are none.
        torch_run: what the torch student computed on the first images of `pixels` (without them,
            of `data`), as many as its logits has rows; None without a torch student.
    """

    inputs: InputFormat
    pixels: NDArray[np.uint8] | None = None
    data: EvalData | None = None
    torch_run: StudentOutputs | None = None


def evaluate(
    teacher: Path,
    student: Path,
    material: EvaluationData,
    *,
    latency_seconds: float = 2.0,
    threads: int = 1,
    provider: Provider = "cpu",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure `student` against `teacher`.

    Args:
        teacher: float file.
        student: quantized file.
        material: images to compare on.
        latency_seconds: how long to time; 0 does not.
        threads: of the runtime while timing.
        provider: where both run.
        progress: told what is under way.

    Raises:
        UsageError: files and images do not fit each other.
        EnvironmentProblem: the runtime or the provider is missing.
    """
    progress = progress or SilentProgress()
    pair = Session(teacher, provider=provider), Session(student, provider=provider)
    check_pair(teacher, student, pair)
    progress.start("evaluate", 3 + (0 if material.data is None else len(material.data)))
    x = _sample(material)
    del pair  # a large model's sessions hold it twice: they are opened again when needed
    found = audit_kernels(student, provider=provider)
    progress.advance()
    parity = None
    if x is not None:
        parity = measure_parity(student, x, torch_run=material.torch_run, provider=provider)
    progress.advance()
    latency, seconds = None, latency_seconds
    if seconds > 0 and x is not None:
        one = x[:1]
        latency = measure_latency(
            teacher, student, one, threads=threads, seconds=seconds, provider=provider
        )
    progress.advance()
    pair = Session(teacher, provider=provider), Session(student, provider=provider)
    return Evaluation(
        teacher=measure_file(teacher),
        student=measure_file(student),
        synthetic=_on_pixels(pair, material),
        evaluation=_on_data(pair, material, progress),
        parity=parity,
        audit=found,
        latency=latency,
        note="" if material.data is None else material.data.note,
        runtime=runtime_version(),
        provider=provider,
        class_names=() if material.data is None else material.data.class_names,
    )


def check_pair(teacher: Path, student: Path, pair: tuple[Session, Session]) -> None:
    """Refuse two files that do not take the same input or give the same outputs.

    Raises:
        UsageError: names what differs.
    """
    for what, first, second in (
        ("input", pair[0].inputs, pair[1].inputs),
        ("output", pair[0].outputs, pair[1].outputs),
    ):
        fit = len(first) == len(second) and all(map(_alike, first, second))
        if not fit:
            raise UsageError(
                f"{student} is not a student of {teacher}: {what} {_words(second)} instead of"
                f" {_words(first)}"
            )


def _alike(first: SessionValue, second: SessionValue) -> bool:
    """Tell whether two ports have one name, type and shape; free axes fit any size."""
    shapes = first.shape[1:], second.shape[1:]
    sizes = len(shapes[0]) == len(shapes[1]) and all(
        None in {a, b} or a == b for a, b in zip(*shapes, strict=True)
    )
    return first.name == second.name and first.dtype == second.dtype and sizes


def _words(ports: tuple[SessionValue, ...]) -> str:
    shapes = ("x".join("?" if d is None else str(d) for d in port.shape) for port in ports)
    return ", ".join(f"{p.name} {p.dtype} {s}" for p, s in zip(ports, shapes, strict=True))


def _sample(material: EvaluationData) -> NDArray[np.float32] | None:
    """Return the tensors that parity and latency are measured on."""
    count = PARITY_IMAGES if material.torch_run is None else len(material.torch_run.logits)
    if material.pixels is not None and len(material.pixels):
        return material.inputs.to_tensor(material.pixels[:count])
    if material.data is not None:
        pixels = material.data.images.read(0, min(count, len(material.data)))
        return material.inputs.to_tensor(pixels)
    return None


def _on_pixels(pair: tuple[Session, Session], material: EvaluationData) -> Comparison | None:
    if material.pixels is None or not len(material.pixels):
        return None
    x = material.inputs.to_tensor(material.pixels)
    teacher, student = (s.run_batched({s.inputs[0].name: x}) for s in pair)
    return compare_outputs(teacher, student, image=x.shape[1:])


def _on_data(
    pair: tuple[Session, Session], material: EvaluationData, progress: Progress
) -> Comparison | None:
    if material.data is None:
        return None
    data, found = material.data, []

    def one(start: int) -> tuple[Outputs, Outputs]:
        pixels = data.images.read(start, min(start + _BATCH, len(data)))
        x = material.inputs.to_tensor(pixels)
        teacher, student = (s.run_batched({s.inputs[0].name: x}) for s in pair)
        return teacher, student

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # sessions of one thread each, many batches
        for outputs in pool.map(one, range(0, len(data), _BATCH)):
            found.append(outputs)
            progress.advance(len(next(iter(outputs[0].values()))))
    teacher, student = (
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*found, strict=True)
    )
    image = material.inputs.to_tensor(data.images.read(0, 1)).shape[1:]
    return compare_outputs(teacher, student, data.labels, image=image)
