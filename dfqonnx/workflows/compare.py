"""`dfqonnx compare`: measure several quantized files against one float teacher. Needs no torch.

All are measured on the same images: labeled ones where given, or else procedural ones, on which no
student was trained. A file that cannot be measured gets a line with the reason; the others are
still compared.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dfqonnx.config.commands import CompareConfig
from dfqonnx.config.input_values import recorded_inputs
from dfqonnx.core.input_format import METADATA_KEY
from dfqonnx.core.progress import Progress, RecordingProgress, SilentProgress
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.evaluation.file_size import measure_file
from dfqonnx.export.closed_files import closed_files
from dfqonnx.export.metadata import read_metadata, recorded_quantization, recorded_rules
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.report.build import build_report
from dfqonnx.report.comparison import ComparedStudent, ComparisonTable
from dfqonnx.report.environment import describe_environment
from dfqonnx.report.evidence_warnings import add_evidence
from dfqonnx.report.files import find_teacher, read_report
from dfqonnx.report.sections import BitFacts, ModelFacts
from dfqonnx.runtime.session import require_runtime
from dfqonnx.workflows.gather_evidence import gather_evidence
from dfqonnx.workflows.preflight import check_eval_data, check_file, verify_data
from dfqonnx.workflows.resolve_inputs import ResolvedInputs, open_eval_data, resolve_inputs


def compare(config: CompareConfig, *, progress: Progress | None = None) -> ComparisonTable:
    """Measure every student on the same images.

    Raises:
        UsageError: a path is wrong, or the teacher is unknown.
        UnsupportedModel: dfqonnx cannot read the teacher.
        EnvironmentProblem: the runtime is missing.
    """
    require_runtime()
    check_eval_data(config.eval_data)
    verify_data(config.eval_data)
    students = tuple(_find_student(named) for named in config.students)
    teacher = config.teacher or _find_common_teacher(config.students)
    check_file(teacher, what="--teacher")
    recorder = RecordingProgress(progress or SilentProgress())
    given = {k: v for s in students for k, v in recorded_inputs(read_metadata(s)).items()}
    model = open_model(teacher, given=given)
    inputs = _resolve_inputs(config, model, students, recorder)
    data, images = _choose_images(config, model, inputs)
    compared = tuple(
        _measure(name, (teacher, student), model, data, config=config, progress=recorder)
        for name, student in zip(_make_names(config.students), students, strict=True)
    )
    facts = measure_file(teacher)
    top1 = next((e.report.teacher.top1 for e in compared if e.report is not None), None)
    return ComparisonTable(
        teacher=ModelFacts(facts.path, facts.sha256, facts.bytes, top1),
        images=images,
        students=compared,
        preprocess=dataclasses.asdict(inputs.format.preprocessing),
        environment=describe_environment(),
        warnings=(
            *recorder.warnings,
            *_other_teachers(students, facts.sha256),
            *_doubts(compared),
        ),
    )


def _find_student(named: Path) -> Path:
    """Return the quantized file that an output folder or a file stands for."""
    if not named.is_dir():
        check_file(named, what="compare")
        return named
    student = named / read_report(named).student.path
    check_file(student, what=f"compare {named}:")
    return student


def _find_common_teacher(students: tuple[Path, ...]) -> Path:
    found: dict[str, Path] = {}
    for folder in students:
        if folder.is_dir():
            report = read_report(folder)
            teacher = find_teacher(report, folder)
            if teacher is not None:
                found[report.teacher.sha256 or str(teacher)] = teacher
    if len(found) != 1:
        why = (
            "the reports name several teachers" if found else "no report names an existing teacher"
        )
        raise UsageError(f"compare: {why}; give the float file with --teacher")
    return next(iter(found.values()))


def _make_names(students: tuple[Path, ...]) -> list[str]:
    """Return short names, longer ones where short ones would be the same."""
    short = [path.name if path.is_dir() else path.stem for path in students]
    counts = Counter(short)
    longer = [
        name if counts[name] == 1 else str(path) for name, path in zip(short, students, strict=True)
    ]
    again = Counter(longer)
    return [n if again[n] == 1 else f"{n} #{k}" for k, n in enumerate(longer, 1)]


def _resolve_inputs(
    config: CompareConfig, model: NormalizedModel, students: tuple[Path, ...], progress: Progress
) -> ResolvedInputs:
    """Take the input format of the first student whose metadata has one."""
    metadata: Mapping[str, str] = model.source.metadata
    for student in students:
        own = read_metadata(student)
        if METADATA_KEY in own:
            metadata = {**metadata, METADATA_KEY: own[METADATA_KEY]}
            break
    return resolve_inputs(
        config.preprocess, model, metadata=metadata, seed=config.seed, progress=progress
    )


def _choose_images(
    config: CompareConfig, model: NormalizedModel, inputs: ResolvedInputs
) -> tuple[EvaluationData, str]:
    """Return the images that all students are measured on, and what they are in words."""
    data = open_eval_data(config.eval_data, model, inputs.format, class_file=config.classes)
    if data is not None:
        return EvaluationData(inputs=inputs.format, data=data), f"{len(data):,} labeled images"
    size = inputs.format.image_size
    rng = np.random.default_rng(config.seed)
    pixels = make_probe_images(size, rng=rng, photo=inputs.format.is_image)
    words = f"{len(pixels)} procedural images on which no student was trained"
    return EvaluationData(inputs=inputs.format, pixels=pixels), words


def _measure(
    name: str,
    files: tuple[Path, Path],
    model: NormalizedModel,
    data: EvaluationData,
    *,
    config: CompareConfig,
    progress: Progress,
) -> ComparedStudent:
    teacher, student = files
    try:
        with closed_files(model.interface, *files) as (first, second):
            found = evaluate(first, second, data, threads=config.threads, progress=progress)
        found = dataclasses.replace(
            found, teacher=measure_file(teacher), student=measure_file(student)
        )
        metadata = read_metadata(student)
        quant = recorded_quantization(metadata)
    except UsageError as error:
        return ComparedStudent(name, str(student), None, error.message)
    report = build_report(found)
    report = dataclasses.replace(
        report, bits=None if quant is None else BitFacts.of(quant, recorded_rules(metadata))
    )
    recorded = {str(teacher): model.source.metadata, str(student): metadata}
    facts = gather_evidence(model, data, found, recorded=recorded, kept_float=())
    return ComparedStudent(name, str(student), add_evidence(report, facts))


def _doubts(compared: Sequence[ComparedStudent]) -> Iterator[str]:
    """Yield what makes the numbers of a student no evidence, with its name."""
    for student in compared:
        for found in () if student.report is None else student.report.evidence:
            if found.effect != "warn":
                yield f"{student.name}: {found}"


def _other_teachers(students: tuple[Path, ...], teacher: str) -> list[str]:
    """Return a warning for every student that was made from another teacher."""
    found = []
    for student in students:
        named = read_metadata(student).get("dfqonnx.teacher")
        if named and named != teacher:
            found.append(f"{student} was made from another float file (sha256 {named[:12]}...)")
    return found
