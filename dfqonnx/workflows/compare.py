"""Hold several quantized files against one float teacher: `dfqonnx compare`. Needs no torch.

All meet the same images: labeled ones where given, else procedural ones, on which no student was
trained. A file that cannot be measured gets a line with the reason; the others are still compared.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dfqonnx.config.commands import CompareConfig
from dfqonnx.core.input_format import METADATA_KEY
from dfqonnx.core.progress import Progress, RecordingProgress, SilentProgress
from dfqonnx.data.probe_images import paint_probe_images
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.evaluation.file_size import measure_file
from dfqonnx.export.metadata import read_metadata, recorded_quantization
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.report.build import build_report
from dfqonnx.report.comparison import ComparedStudent, ComparisonTable
from dfqonnx.report.environment import describe_environment
from dfqonnx.report.files import find_teacher, read_report
from dfqonnx.report.sections import BitFacts, ModelFacts
from dfqonnx.runtime.session import require_runtime
from dfqonnx.workflows.preflight import check_eval_data, check_file
from dfqonnx.workflows.resolve_inputs import ResolvedInputs, open_eval_data, resolve_inputs


def compare(spec: CompareConfig, *, progress: Progress | None = None) -> ComparisonTable:
    """Measure every student on the same images.

    Raises:
        UsageError: a path is wrong, or the teacher is unknown.
        UnsupportedModel: the teacher is none that dfqonnx can read.
        EnvironmentProblem: the runtime is missing.
    """
    require_runtime()
    if spec.eval_data is not None:
        check_eval_data(spec.eval_data)
    students = tuple(_student(target) for target in spec.targets)
    teacher = spec.teacher or _common_teacher(spec.targets)
    check_file(teacher, what="--teacher")
    recorder = RecordingProgress(progress or SilentProgress())
    model = open_model(teacher)
    inputs = _inputs(spec, model, students, recorder)
    material, images = _material(spec, model, inputs)
    compared = tuple(
        _measure(name, student, teacher, material, spec=spec, progress=recorder)
        for name, student in zip(_names(spec.targets), students, strict=True)
    )
    facts = measure_file(teacher)
    top1 = next((e.report.teacher.top1 for e in compared if e.report is not None), None)
    return ComparisonTable(
        teacher=ModelFacts(facts.path, facts.sha256, facts.bytes, top1),
        images=images,
        students=compared,
        preprocess=dataclasses.asdict(inputs.format.preprocessing),
        environment=describe_environment(),
        warnings=(*recorder.warnings, *_other_teachers(students, facts.sha256)),
    )


def _student(target: Path) -> Path:
    """Return the quantized file that a target means."""
    if not target.is_dir():
        check_file(target, what="compare")
        return target
    student = target / read_report(target).student.path
    check_file(student, what=f"compare {target}:")
    return student


def _common_teacher(targets: tuple[Path, ...]) -> Path:
    found: dict[str, Path] = {}
    for target in targets:
        if target.is_dir():
            report = read_report(target)
            place = find_teacher(report, target)
            if place is not None:
                found[report.teacher.sha256 or str(place)] = place
    if len(found) != 1:
        why = (
            "the reports name several teachers" if found else "no report names an existing teacher"
        )
        raise UsageError(f"compare: {why}; give the float file with --teacher")
    return next(iter(found.values()))


def _names(targets: tuple[Path, ...]) -> list[str]:
    """Return short names, longer ones where short ones would be the same."""
    short = [target.name if target.is_dir() else target.stem for target in targets]
    counts = Counter(short)
    longer = [
        name if counts[name] == 1 else str(target)
        for name, target in zip(short, targets, strict=True)
    ]
    again = Counter(longer)
    return [n if again[n] == 1 else f"{n} #{k}" for k, n in enumerate(longer, 1)]


def _inputs(
    spec: CompareConfig, model: NormalizedModel, students: tuple[Path, ...], progress: Progress
) -> ResolvedInputs:
    """Ask the first student that says how pixels become its input."""
    metadata: Mapping[str, str] = model.source.metadata
    for student in students:
        own = read_metadata(student)
        if METADATA_KEY in own:
            metadata = {**metadata, METADATA_KEY: own[METADATA_KEY]}
            break
    return resolve_inputs(
        spec.preprocess, model, metadata=metadata, seed=spec.seed, progress=progress
    )


def _material(
    spec: CompareConfig, model: NormalizedModel, inputs: ResolvedInputs
) -> tuple[EvaluationData, str]:
    data = open_eval_data(spec.eval_data, model, inputs.format)
    if data is not None:
        return EvaluationData(inputs.format, None, data), f"{len(data):,} labeled images"
    size = inputs.format.image_size
    rng = np.random.default_rng(spec.seed)
    pixels = paint_probe_images(size, rng=rng, photo=inputs.format.is_image)
    words = f"{len(pixels)} procedural images on which no student was trained"
    return EvaluationData(inputs.format, pixels), words


def _measure(
    name: str,
    student: Path,
    teacher: Path,
    material: EvaluationData,
    *,
    spec: CompareConfig,
    progress: Progress,
) -> ComparedStudent:
    try:
        found = evaluate(teacher, student, material, threads=spec.threads, progress=progress)
        quant = recorded_quantization(read_metadata(student))
    except UsageError as error:
        return ComparedStudent(name, str(student), None, str(error))
    report = build_report(found)
    report = dataclasses.replace(report, bits=None if quant is None else BitFacts.of(quant))
    return ComparedStudent(name, str(student), report)


def _other_teachers(students: tuple[Path, ...], teacher: str) -> list[str]:
    """Return a warning for every student that was made from another teacher."""
    found = []
    for student in students:
        named = read_metadata(student).get("dfqonnx.teacher")
        if named and named != teacher:
            found.append(f"{student} was made from another float file (sha256 {named[:12]}...)")
    return found
