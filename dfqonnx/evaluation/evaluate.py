"""Everything that is measured of one pair of files.

    teacher (float file) -- the same images -- student (quantized file, and the torch student)

Nothing here chooses or changes anything; it only measures.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.data.eval_data import EvalData
from dfqonnx.data.label_types import Labels
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.file_size import FileFacts, measure_file
from dfqonnx.evaluation.measures.choose_tallies import MeasureOptions, OutputContext
from dfqonnx.evaluation.measures.measure_pair import PairMeasurement, PairMeasures
from dfqonnx.evaluation.measures.side_pictures import SHOWN_INPUTS, SidePicture
from dfqonnx.evaluation.measures.task_measure import InputSet, TaskMeasure
from dfqonnx.evaluation.outputs import Comparison, ComparisonTally, Outputs
from dfqonnx.evaluation.parity import Parity, StudentOutputs, measure_parity
from dfqonnx.evaluation.target_proof import (
    TargetProof,
    TargetRun,
    is_proved_here,
    prove_here,
    prove_in_target,
    target_of,
)
from dfqonnx.runtime.kernel_audit import Audit, audit_kernels
from dfqonnx.runtime.latency import Latency, measure_latency
from dfqonnx.runtime.session import Provider, Session, SessionValue, runtime_version

PARITY_IMAGES = 128
_BATCH, _NUMBERS = 64, 2**24  # inputs, and their numbers, that are run at once
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was measured."""

    teacher: FileFacts
    student: FileFacts
    synthetic: Comparison | None  # on images without labels; None when there were none
    evaluation: Comparison | None  # on labeled images; None when there were none
    parity: Parity | None  # None without quantizers in the file, or without images
    audit: Audit  # by the target's runtime where it says, else by ONNX Runtime
    latency: Latency | None  # in the target's runtime; None when it was not timed
    note: str  # what was done to evaluation images to fit the model
    runtime: str  # the version of ONNX Runtime
    provider: Provider
    class_names: tuple[str, ...] = ()  # in label order; empty where the data name none
    measures: tuple[TaskMeasure, ...] = ()  # that a user of the task knows, on every set of inputs
    notes: tuple[str, ...] = ()  # how the outputs were read for them
    pictures: tuple[SidePicture, ...] = ()  # results on the first inputs, where they can be drawn
    proof: TargetProof | None = None  # in the runtime of the file's target

    @property
    def size_ratio(self) -> float:
        """The student's bytes over the teacher's."""
        return self.student.bytes / self.teacher.bytes


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """The images that two files are compared on.

    `torch_run` is what the torch student computed on the first images of `pixels` (without them, of
    `data`), as many as its logits have rows; None without a torch student.
    """

    inputs: InputFormat
    pixels: NDArray[np.uint8] | None = None  # (N, H, W, C), without labels
    data: EvalData | None = None  # labeled images
    torch_run: StudentOutputs | None = None
    real: NDArray[np.uint8] | None = None  # (N, H, W, C), of a camera, without labels
    options: MeasureOptions = field(default_factory=MeasureOptions)
    metadata: Mapping[str, str] = field(default_factory=dict)  # of the float model's file

    def context(self, labels: Labels | None = None) -> OutputContext:
        """Return what is known of the outputs beside their values."""
        size = self.inputs.image_size
        return OutputContext(
            shape=self.inputs.shape,
            frame=size[:2] if self.inputs.is_image else None,
            metadata=self.metadata,
            labels=labels,
        )

    def spread_tensors(self, count: int) -> NDArray[Any] | None:
        """Return `count` of the inputs that a report compares on, labeled ones first, or fewer."""
        data, pixels = self.data, self.pixels
        length = len(data) if data is not None else 0 if pixels is None else len(pixels)
        places = [int(k) for k in np.linspace(0, length - 1, min(count, length))]
        if data is not None and places:
            return np.concatenate([data.read_tensor(k, k + 1, self.inputs) for k in places])
        return self.inputs.to_tensor(pixels[places]) if pixels is not None and places else None


def evaluate(
    teacher: Path,
    student: Path,
    images: EvaluationData,
    *,
    latency_seconds: float = 2.0,
    threads: int = 1,
    provider: Provider = "cpu",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure `student` against `teacher`; `latency_seconds` 0 does not time them.

    Raises:
        UsageError: files and images do not fit each other.
        EnvironmentProblem: the runtime or the provider is missing.
    """
    progress = progress or SilentProgress()
    pair = Session(teacher, provider=provider), Session(student, provider=provider)
    check_pair(teacher, student, pair)
    progress.start("evaluate", 3 + (0 if images.data is None else len(images.data)))
    x = _parity_inputs(images)
    del pair  # a large model's sessions hold it twice: they are opened again when needed
    parity = None
    if x is not None:
        parity = measure_parity(student, x, torch_run=images.torch_run, provider=provider)
    progress.advance()
    proved = _prove(
        (teacher, student),
        x,
        images.torch_run,
        seconds=latency_seconds,
        threads=threads,
        provider=provider,
    )
    progress.advance(2)
    pair = Session(teacher, provider=provider), Session(student, provider=provider)
    labeled, on_labeled = _compare_labeled(pair, images, progress)
    synthetic, on_synthetic = _compare_pixels(pair, images, images.pixels, "synthetic")
    _, on_real = _compare_pixels(pair, images, images.real, "real")
    on_all = (on_labeled, on_real, on_synthetic)
    return Evaluation(
        teacher=measure_file(teacher),
        student=measure_file(student),
        synthetic=synthetic,
        evaluation=labeled,
        parity=parity,
        audit=proved.audit or audit_kernels(student, provider=provider),
        latency=proved.latency,
        note="" if images.data is None else images.data.note,
        runtime=runtime_version(),
        provider=provider,
        class_names=() if images.data is None else images.data.class_names,
        measures=tuple(each for found_on in on_all for each in found_on.measures),
        notes=tuple(dict.fromkeys(note for found_on in on_all for note in found_on.notes)),
        pictures=next((found_on.pictures for found_on in on_all if found_on.pictures), ()),
        proof=proved.proof,
    )


def _prove(
    files: tuple[Path, Path],
    x: NDArray[np.float32] | None,
    torch_run: StudentOutputs | None,
    *,
    seconds: float,
    threads: int,
    provider: Provider,
) -> TargetRun:
    """Load, run and time the second of the files in the runtime that its target is for."""
    target = target_of(files[1])
    trained = None if torch_run is None else (torch_run.output, torch_run.logits)
    if not is_proved_here(target):
        return prove_in_target(target, files, x, trained=trained, turn_seconds=seconds)
    audit, latency = audit_kernels(files[1], provider=provider), None
    if seconds > 0 and x is not None:
        latency = measure_latency(
            *files, x[:1], threads=threads, seconds=seconds, provider=provider
        )
    proof = prove_here(target, files[1], x, audit=audit, latency=latency, trained=trained)
    return TargetRun(proof, audit, latency)


def check_pair(teacher: Path, student: Path, pair: tuple[Session, Session]) -> None:
    """Refuse two files that do not take the same input or give the same outputs.

    Raises:
        UsageError: names what differs.
    """
    for what, first, second in (
        ("input", pair[0].inputs, pair[1].inputs),
        ("output", pair[0].outputs, pair[1].outputs),
    ):
        fit = len(first) == len(second) and all(map(_is_alike, first, second))
        if not fit:
            raise UsageError(
                f"{student} is not a student of {teacher}: {what} {_format(second)} instead of"
                f" {_format(first)}"
            )


def _is_alike(first: SessionValue, second: SessionValue) -> bool:
    """Return whether two ports have one name, type and shape; free axes fit any size."""
    shapes = first.shape[1:], second.shape[1:]
    sizes = len(shapes[0]) == len(shapes[1]) and all(
        None in {a, b} or a == b for a, b in zip(*shapes, strict=True)
    )
    return first.name == second.name and first.dtype == second.dtype and sizes


def _format(ports: tuple[SessionValue, ...]) -> str:
    shapes = ("x".join("?" if d is None else str(d) for d in port.shape) for port in ports)
    return ", ".join(f"{p.name} {p.dtype} {s}" for p, s in zip(ports, shapes, strict=True))


def _parity_inputs(images: EvaluationData) -> NDArray[np.float32] | None:
    """Return the tensors that parity and latency are measured on; None without images."""
    count = PARITY_IMAGES if images.torch_run is None else len(images.torch_run.logits)
    if images.pixels is not None and len(images.pixels):
        return images.inputs.to_tensor(images.pixels[:count])
    if images.data is not None:
        return images.data.read_tensor(0, min(count, len(images.data)), images.inputs)
    return None


def _batch_size(shape: Sequence[int]) -> int:
    """Return how many inputs of a shape are run at once, so that large ones fit in memory."""
    return max(1, min(_BATCH, _NUMBERS // max(1, math.prod(shape))))


def _run_ahead(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield the results in order, computed in threads, with few of them waiting at a time."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:  # sessions of one thread each, many batches
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _compare_pixels(
    pair: tuple[Session, Session],
    images: EvaluationData,
    pixels: NDArray[np.uint8] | None,
    inputs: InputSet,
) -> tuple[Comparison | None, PairMeasures]:
    if pixels is None or not len(pixels):
        return None, PairMeasures()
    options = images.options
    if images.data is not None:  # a function of the user's may need labels
        options = replace(options, metric=None)
    shape = images.inputs.to_tensor(pixels[:1]).shape[1:]
    compared, size = ComparisonTally(shape), _batch_size(shape)
    measurement = PairMeasurement(images.context(), options, inputs)
    for start in range(0, len(pixels), size):
        x = images.inputs.to_tensor(pixels[start : start + size])
        teacher, student = (s.run_batched({s.inputs[0].name: x}) for s in pair)
        measurement.add(teacher, student, start, len(x))
        compared.add(teacher, student, len(x))
    return compared.result(), measurement.result(pixels[:SHOWN_INPUTS])


def _compare_labeled(
    pair: tuple[Session, Session], images: EvaluationData, progress: Progress
) -> tuple[Comparison | None, PairMeasures]:
    """Compare on evaluation data: batches run side by side, and none is kept once it is counted."""
    if images.data is None:
        return None, PairMeasures()
    data = images.data
    measurement = PairMeasurement(images.context(data.labels), images.options, "evaluation")
    shape = data.read_tensor(0, 1, images.inputs).shape[1:]
    compared, size = ComparisonTally(shape), _batch_size(shape)

    def run_batch(start: int) -> tuple[Outputs, Outputs]:
        x = data.read_tensor(start, min(start + size, len(data)), images.inputs)
        teacher, student = (s.run_batched({s.inputs[0].name: x}) for s in pair)
        return teacher, student

    places = range(0, len(data), size)
    for start, outputs in zip(places, _run_ahead(run_batch, places), strict=True):
        count = min(size, len(data) - start)
        measurement.add(*outputs, start, count)
        compared.add(*outputs, count)
        progress.advance(count)
    pictures = data.read_pixels(0, min(SHOWN_INPUTS, len(data)))
    return compared.result(data.class_labels), measurement.result(pictures)
