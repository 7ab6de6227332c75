"""The story of a run: a float ONNX file in, a proven low-bit one out.

    open -> place -> synthesize -> equalize -> distill -> export -> evaluate -> report

Everything is written to a staging folder; the output folder is complete or absent.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from dfqonnx.analysis.student_outputs import class_agreement, run_student, untrained_top1
from dfqonnx.config.commands import RunConfig
from dfqonnx.config.recipe import write_recipe
from dfqonnx.core.atomic_write import atomic_folder
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, RecordingProgress, SilentProgress
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.data.labeled import EvalData
from dfqonnx.distill.distill import Distilled, distill
from dfqonnx.equalization.equalize import EqualizedNetwork, equalize
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.export.export import export
from dfqonnx.export.metadata import describe
from dfqonnx.export.opset import check_operators
from dfqonnx.export.writer import write
from dfqonnx.fakequant.student import Student
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.fixed_opponent import make_fixed_opponents
from dfqonnx.report.report import Report
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.synthesis.synthesize import SyntheticImages, synthesize
from dfqonnx.targets.profile import TARGETS
from dfqonnx.version import __version__
from dfqonnx.workflows.assemble_report import (
    FinishedRun,
    HeldOut,
    Proof,
    assemble_report,
    write_run,
)
from dfqonnx.workflows.preflight import check_room, preflight
from dfqonnx.workflows.resolve_inputs import estimate, open_eval_data, open_real
from dfqonnx.workflows.teacher import Teacher, choose_device, gpu_name, open_teacher

IMAGE_SHARE = 0.35  # of a budget that images may take; training gets what is left


def run(config: RunConfig, *, progress: Progress | None = None) -> Report:
    """Quantize a model and prove the result; everything is written to `config.out`.

    Raises:
        UsageError: a path, a setting or evaluation data that does not fit.
        UnsupportedModel: the model cannot be quantized; every offending node is named.
        EnvironmentProblem: runtime, device, disk or permission.
    """
    preflight(config)
    recording = RecordingProgress(progress or SilentProgress())
    device = choose_device(config.device)
    context = RunContext(config.seed, device, recording, config.budget)
    teacher = open_teacher(
        config.model,
        preprocess=config.preprocess,
        context=context,
        recipe=config.recipe,
        image_size=config.image_size,
    )
    target = TARGETS[config.target]
    check_operators(teacher.model.ir, target)
    check_room(config, pixels=pixel_bytes(config.recipe.synthesis, teacher.inputs.shape))
    plan = place_quantizers(teacher.model, config.quant, target, input_signed=teacher.inputs.signed)
    labeled = open_eval_data(config.eval_data, teacher.model, teacher.inputs)
    real = open_real(config.images, teacher.inputs)
    with atomic_folder(config.out) as folder:
        images = _synthesize(config, teacher, plan, context)
        recording.start("initialize", 1)
        network = equalize(
            teacher.program,
            plan,
            teacher.model.statistics,
            spec=config.recipe.equalization,
            inputs=teacher.inputs,
            progress=recording,
        )
        student = Student(network.program, network.plan)
        trained = _distill(config, student, network, images, inputs=teacher.inputs, context=context)
        file = folder / f"{config.model.stem}.{config.quant.bits.label}.onnx"
        _export(config, teacher, network.plan, student, file=file, progress=recording)
        places = np.array(trained.held_out, np.int64)
        held = HeldOut(images.pixels[places], trained.held_out)
        proof = _evaluate(
            config,
            teacher,
            student,
            trained,
            file=file,
            held=held,
            labeled=labeled,
            progress=recording,
        )
        estimated = estimate(config.model, file, teacher.inputs, real=real)
        finished = FinishedRun(
            config=config,
            teacher=teacher,
            network=network,
            student=student,
            images=images,
            held=held,
            trained=trained,
            proof=proof,
            estimate=estimated,
            file=file,
            seconds=recording.seconds(),
            warnings=tuple(recording.warnings),
            gpu=gpu_name(context),
        )
        return write_run(assemble_report(finished), finished, folder)


def _synthesize(
    config: RunConfig, teacher: Teacher, plan: QuantizationPlan, context: RunContext
) -> SyntheticImages:
    recipe = config.recipe.synthesis
    context.progress.start("synthesize", 1)
    opponents = make_fixed_opponents(
        teacher.program, plan, spec=recipe, inputs=teacher.inputs, context=context
    )
    share = None if config.budget is None else IMAGE_SHARE * config.budget
    return synthesize(
        teacher.program,
        teacher.model.statistics,
        inputs=teacher.inputs,
        spec=recipe,
        context=context.with_budget(share),
        opponents=opponents,
    )


def _distill(
    config: RunConfig,
    student: Student,
    network: EqualizedNetwork,
    images: SyntheticImages,
    *,
    inputs: InputFormat,
    context: RunContext,
) -> Distilled:
    left = None if config.budget is None else max(1.0, config.budget - images.seconds)
    return distill(
        network,
        student,
        images,
        config=config.recipe.distillation,
        equalization=config.recipe.equalization,
        inputs=inputs,
        context=context.with_budget(left),
    )


def _export(
    config: RunConfig,
    teacher: Teacher,
    plan: QuantizationPlan,
    student: Student,
    *,
    file: Path,
    progress: Progress,
) -> None:
    recipe = hashlib.sha256(write_recipe(config.recipe).encode()).hexdigest()
    metadata = describe(
        version=__version__,
        quant=config.quant,
        target=plan.target,
        seed=config.seed,
        recipe=recipe[:16],
        teacher=teacher.model.source.sha256,
        inputs=teacher.inputs.preprocessing,
        image_size=teacher.inputs.shape if teacher.model.open_axes else None,
    )
    progress.start("export", 1)
    exported = export(
        teacher.model,
        plan,
        student.qparams(),
        storage=config.quant.weight_storage,
        metadata=metadata,
    )
    write(exported, file)
    progress.advance()


def _evaluate(
    config: RunConfig,
    teacher: Teacher,
    student: Student,
    trained: Distilled,
    *,
    file: Path,
    held: HeldOut,
    labeled: EvalData | None,
    progress: Progress,
) -> Proof:
    """Measure the exported file against the float model and against the torch student."""
    progress.start("evaluate", 1)
    inputs = teacher.inputs
    torch_run = run_student(student, held.pixels, inputs)
    data = EvaluationData(inputs, held.pixels, labeled, torch_run)
    found = evaluate(config.model, file, data, progress=progress)
    untrained = None
    same = class_agreement(student, labeled, found, inputs)
    if trained.kept and found.evaluation is not None and found.evaluation.drop is not None:
        untrained = untrained_top1(student, trained.untrained, labeled, inputs)
    return Proof(found, same, untrained)
