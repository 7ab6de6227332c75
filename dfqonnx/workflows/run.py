"""The story: a float ONNX file in, a proven low-bit one out.

    load -> sites -> images -> student -> file -> proof

Everything is written to a staging folder; the output folder is complete or absent.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfqonnx.analysis.student_outputs import replay, same_classes, untrained_top1
from dfqonnx.config.commands import RunConfig
from dfqonnx.config.recipe import check_needs, write_recipe
from dfqonnx.config.request import command_of
from dfqonnx.convert.importer import to_program, truncate_at_unsupported
from dfqonnx.convert.program import Program
from dfqonnx.core.atomic_write import atomic_folder
from dfqonnx.core.progress import Progress, RecordingProgress, SilentProgress, StageTimer
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.distill.distill import Distilled, distill
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.equalization.equalize import equalize
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.export.export import export
from dfqonnx.export.metadata import describe
from dfqonnx.export.opset import choose_opset
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents
from dfqonnx.report.build import build
from dfqonnx.report.environment import environment, peak_rss_mb
from dfqonnx.report.files import write_arrays, write_images, write_log, write_report
from dfqonnx.report.gate_verdicts import apply_gates
from dfqonnx.report.report import Report
from dfqonnx.report.sections import ImageFacts as ImageFacts
from dfqonnx.report.sections import widths
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from dfqonnx.targets.profile import TARGETS
from dfqonnx.version import __version__
from dfqonnx.workflows.assemble_report import HeldOut, assemble_report, look
from dfqonnx.workflows.preflight import check_room, preflight
from dfqonnx.workflows.resolve_inputs import (
    Inputs,
    estimate,
    offers,
    open_eval_data,
    open_real,
    resolve_inputs,
)
from dfqonnx.workflows.teacher import check_teacher, choose_device, device_name

IMAGE_SHARE = 0.35  # of a budget that images may take; training gets what is left


@dataclass(frozen=True)
class RunState:
    """What every stage of one run reads."""

    spec: RunConfig
    model: NormalizedModel
    teacher: Program
    sites: QuantizationPlan
    inputs: Inputs
    device: str
    progress: RecordingProgress
    watch: StageTimer


def run(spec: RunConfig, *, progress: Progress | None = None) -> Report:
    """Quantize a model and prove the result; everything is written to `spec.out`.

    Raises:
        UsageError: a path, a setting or evaluation data that does not fit.
        UnsupportedModel: the model cannot be quantized; every offending node is named.
        EnvironmentProblem: runtime, device, disk or permission.
    """
    preflight(spec)
    case = _open(spec, RecordingProgress(progress or SilentProgress()))
    data = open_eval_data(spec.eval_data, case.model, case.inputs.spec)
    real = open_real(spec.images, case.model, case.inputs.spec)
    with atomic_folder(spec.out) as folder:
        images = _synthesize(case)
        case, expected = _reworked(case)
        student = Student(case.teacher, case.sites)
        trained = _distill(case, student, images, expected)
        path = folder / f"{spec.model.stem}.{spec.quant.bits.label}.onnx"
        _export(case, student, path)
        held = _held_out(case, images)
        with case.watch.stage("validate"):
            inputs, shape = case.inputs.spec, case.model.input_shape
            torch_run = replay(student, held.pixels, inputs, shape=shape)
            material = EvaluationData(inputs, held.pixels, data, torch_run)
            found = evaluate(spec.model, path, material, progress=case.progress)
            same = same_classes(student, data, found, inputs, shape=shape)
            plain = None
            if trained.kept and found.evaluation is not None and found.evaluation.drop is not None:
                plain = untrained_top1(student, trained.untrained, data, inputs, shape=shape)
            told = estimate(spec.model, path, case.model, inputs, real=real)
        report = build(found, kept_float={site.node for site in case.sites.floats})
        report = report.compared(same, images=0 if data is None else len(data))
        report = dataclasses.replace(_complete(case, report, images, path), estimate=told)
        report = apply_gates(report, spec.gates, strict=spec.strict_gates)
        report = assemble_report(
            report,
            case.model,
            trained,
            held,
            classes=None if found.synthetic is None else found.synthetic.classes,
            portrait=look(student, case.teacher, case.model, held=held, inputs=case.inputs.spec),
            untrained=plain,
        )
        write_images(images.pixels, folder / "synthetic", held=held.at)
        if images.live is not None:
            write_arrays(images.live.state(), folder / "synthetic" / "generator.npz")
        recipe = write_recipe(spec.recipe, header=command_of(spec))
        (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
        write_log(_events(images, trained), folder / "log.jsonl")
        return write_report(report, folder, pixels=images.pixels)


def _open(spec: RunConfig, progress: RecordingProgress) -> RunState:
    watch = StageTimer()
    device = choose_device(spec.device)
    model = truncate_at_unsupported(normalize(load(spec.model), image_size=spec.image_size))
    check_needs(spec.recipe, spec.model, there=offers(model))
    check_room(spec, pixels=pixel_bytes(spec.recipe.synthesis, model.input_shape))
    teacher = to_program(model)
    check_teacher(spec.model, teacher, model.input_shape)
    target = TARGETS[spec.target]
    choose_opset(model.ir, target, packed=False)
    inputs = resolve_inputs(
        spec.inputs,
        model,
        metadata=model.source.metadata,
        seed=spec.seed,
        progress=progress,
    )
    sites = place_quantizers(model, spec.quant, target, input_signed=inputs.spec.signed)
    return RunState(spec, model, teacher, sites, inputs, device, progress, watch)


def _synthesize(case: RunState) -> SyntheticImages:
    budget = case.spec.budget
    with case.watch.stage("synthesize"):
        return synthesize(
            case.teacher,
            case.model.statistics,
            inputs=case.inputs.spec,
            shape=case.model.input_shape,
            spec=case.spec.recipe.synthesis,
            seed=case.spec.seed,
            device=case.device,
            progress=case.progress,
            budget_seconds=None if budget is None else IMAGE_SHARE * budget,
            opponents=make_fixed_opponents(
                case.teacher,
                case.sites,
                spec=case.spec.recipe.synthesis,
                inputs=case.inputs.spec,
                shape=case.model.input_shape,
                seed=case.spec.seed,
                device=case.device,
            ),
        )


def _reworked(case: RunState) -> tuple[RunState, Mapping[str, ActivationMoments]]:
    """Return the case with the float network that the student is to be a copy of."""
    made = equalize(
        case.teacher,
        case.sites,
        case.model.statistics,
        spec=case.spec.recipe.equalization,
        inputs=case.inputs.spec,
        shape=case.model.input_shape,
        progress=case.progress,
    )
    return dataclasses.replace(case, teacher=made.program, sites=made.sites), made.expected


def _distill(
    case: RunState,
    student: Student,
    images: SyntheticImages,
    expected: Mapping[str, ActivationMoments],
) -> Distilled:
    budget = case.spec.budget
    with case.watch.stage("distill"):
        case.progress.start("initialize", 1)
        return distill(
            case.teacher,
            student,
            images.pixels,
            spec=case.spec.recipe.distillation,
            equalization=case.spec.recipe.equalization,
            inputs=case.inputs.spec,
            seed=case.spec.seed,
            progress=case.progress,
            device=case.device,
            budget_seconds=None if budget is None else max(1.0, budget - images.seconds),
            input_shape=case.model.input_shape,
            kinds=images.kinds,
            expected=expected,
            live=images.live,
        )


def _export(case: RunState, student: Student, path: Path) -> None:
    recipe = hashlib.sha256(write_recipe(case.spec.recipe).encode()).hexdigest()
    metadata = describe(
        version=__version__,
        quant=case.spec.quant,
        seed=case.spec.seed,
        recipe=recipe[:16],
        teacher=case.model.source.sha256,
        inputs=case.inputs.spec,
        image_size=case.model.input_shape if case.model.open_axes else None,
    )
    with case.watch.stage("export"):
        case.progress.start("export", 1)
        exported = export(
            case.model,
            case.sites,
            student.qparams(),
            storage=case.spec.quant.weight_storage,
            metadata=metadata,
        )
        write(exported, path)
        case.progress.advance()


def _held_out(case: RunState, images: SyntheticImages) -> HeldOut:
    """Return the images that distillation did not train on."""
    pool = ImagePool(
        images.pixels,
        case.inputs.spec,
        holdout=case.spec.recipe.distillation.holdout_images,
        seed=case.spec.seed,
        device="cpu",
        shape=case.model.input_shape,
        kinds=images.kinds,
    )
    return HeldOut(np.asarray(pool.held.numpy()), pool.held_at)


def _complete(case: RunState, report: Report, images: SyntheticImages, path: Path) -> Report:
    """Add what only a run knows."""
    return dataclasses.replace(
        report,
        student=dataclasses.replace(report.student, path=path.name),
        bits=widths(case.spec.quant),
        seconds=case.watch.total(),
        peak_rss_mb=peak_rss_mb(),
        recipe=case.spec.recipe.title,
        seed=case.spec.seed,
        preprocess=dataclasses.asdict(case.inputs.spec),
        preprocess_guessed=case.inputs.guessed,
        images=ImageFacts(
            images.source,
            len(images.pixels),
            case.model.batchnorm,
            images.reason,
            images.divergence,
        ),
        warnings=(*case.progress.warnings, *report.warnings),
        skipped_rewrites=case.model.skipped,
        environment=environment(device_name(case.device)),
        command=command_of(case.spec),
    )


def _events(images: SyntheticImages, trained: Distilled) -> Iterator[dict[str, Any]]:
    yield {
        "stage": "synthesize",
        "seconds": images.seconds,
        "source": images.source,
        **dataclasses.asdict(images.plan),
    }
    for moment in trained.history:
        yield {"stage": "distill", **dataclasses.asdict(moment)}
    yield {
        "stage": "distilled",
        "steps": trained.steps,
        "seconds": trained.seconds,
        "agreement_before": trained.agreement_before.top1,
        "agreement_after": trained.agreement_after.top1,
        "kept": trained.kept,
        "reason": trained.reason,
    }
