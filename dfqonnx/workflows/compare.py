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
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.evaluation.file_facts import measure_file, read_metadata
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.report.build import build
from dfqonnx.report.comparison import ComparedStudent, ComparisonTable
from dfqonnx.report.environment import environment
from dfqonnx.report.files import find_teacher, read_report
from dfqonnx.report.sections import ModelFacts, widths
from dfqonnx.runtime.session import require_runtime
from dfqonnx.workflows.preflight import check_eval_data, check_file
from dfqonnx.workflows.resolve_inputs import ResolvedInputs, open_eval_data, resolve_inputs
from dfqonnx.workflows.validate import told_quant


def compare(spec: CompareConfig, *, progress: Progress | None = None) -> ComparisonTable:
    """Measure every student on the same images.

    Raises:
        UsageError: a path is wrong, or no teacher can be told.
        UnsupportedModel: the teacher is none that dfqonnx can read.
        EnvironmentProblem: the runtime is missing.
    """
    require_runtime()
    if spec.eval_data is not None:
        check_eval_data(spec.eval_data)
    students = tuple(_student(target) for target in spec.targets)
    teacher = spec.teacher or _common_teacher(spec.targets)
    check_file(teacher, what="--teacher")
    told = RecordingProgress(progress or SilentProgress())
    model = open_model(teacher)
    inputs = _inputs(spec, model, students, told)
    material, images = _material(spec, model, inputs)
    entries = tuple(
        _entry(name, student, teacher, material, spec=spec, progress=told)
        for name, student in zip(_names(spec.targets), students, strict=True)
    )
    facts = measure_file(teacher)
    top1 = next((e.report.teacher.top1 for e in entries if e.report is not None), None)
    return ComparisonTable(
        ModelFacts(facts.path, facts.sha256, facts.bytes, top1),
        images,
        entries,
        dataclasses.asdict(inputs.format.preprocessing),
        environment(),
        (*told.warnings, *_strangers(students, facts.sha256)),
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
        why = "no report names one that is there" if not found else "the reports name several"
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
    spec: CompareConfig, model: NormalizedModel, students: tuple[Path, ...], told: Progress
) -> ResolvedInputs:
    """Ask the first student that says how pixels become its input."""
    metadata: Mapping[str, str] = model.source.metadata
    for student in students:
        own = read_metadata(student)
        if METADATA_KEY in own:
            metadata = {**metadata, METADATA_KEY: own[METADATA_KEY]}
            break
    return resolve_inputs(spec.preprocess, model, metadata=metadata, seed=spec.seed, progress=told)


def _material(
    spec: CompareConfig, model: NormalizedModel, inputs: ResolvedInputs
) -> tuple[EvaluationData, str]:
    data = open_eval_data(spec.eval_data, model, inputs.format)
    if data is not None:
        return EvaluationData(inputs.format, None, data), f"{len(data):,} labeled images"
    size = inputs.format.image_size
    rng = np.random.default_rng(spec.seed)
    pixels = make_probe_images(size, rng=rng, photo=inputs.format.is_image)
    words = f"{len(pixels)} procedural images, unlike those that students were trained on"
    return EvaluationData(inputs.format, pixels), words


def _entry(
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
        quant = told_quant(read_metadata(student))
    except UsageError as error:
        return ComparedStudent(name, str(student), None, str(error))
    report = build(found)
    report = dataclasses.replace(report, bits=None if quant is None else widths(quant))
    return ComparedStudent(name, str(student), report)


def _strangers(students: tuple[Path, ...], teacher: str) -> list[str]:
    """Warn of students that name another teacher."""
    found = []
    for student in students:
        named = read_metadata(student).get("dfqonnx.teacher")
        if named and named != teacher:
            found.append(f"{student} was made from another float file (sha256 {named[:12]}...)")
    return found
