"""`dfqonnx run`: from a float ONNX file to a quantized one with its report.

    open -> place and rehearse -> synthesize -> equalize -> distill -> export -> evaluate -> report

Everything is written to a staging folder; the output folder is complete or absent. What a stage
made is kept (`kept_work`), so that an interrupted run goes on. For several targets the float
network is opened once and images are made once; from there on, each has its own student, file and
report.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dfqonnx.analysis.student_outputs import class_agreement, run_student, untrained_top1
from dfqonnx.checkpoint.cache import Cache, CacheUse
from dfqonnx.checkpoint.stages import RunWork, hold
from dfqonnx.config.commands import RunConfig
from dfqonnx.config.recipe import Recipe
from dfqonnx.core.atomic_write import atomic_folder, copy_model
from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, RecordingProgress, SilentProgress
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.ranks import Ranks
from dfqonnx.core.run_outline import RunOutline
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.distill.distill import distill
from dfqonnx.equalization.equalize import equalize
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.evaluation.file_size import measure_file
from dfqonnx.export.closed_files import closed_files, open_file
from dfqonnx.export.export import export
from dfqonnx.export.opset import check_operators
from dfqonnx.export.writer import write
from dfqonnx.fakequant.input_ties import move_off_ties
from dfqonnx.fakequant.student import Student
from dfqonnx.placement.place import place_quantizers
from dfqonnx.rehearsal.loadable import Stage
from dfqonnx.rehearsal.rehearse import keep_faulty_apart, rehearse
from dfqonnx.report.report import Report
from dfqonnx.synthesis.budget import pixel_bytes
from dfqonnx.targets.profile import TARGETS
from dfqonnx.workflows.assemble_report import RunEvaluation, TrainedRun, assemble_report, write_run
from dfqonnx.workflows.file_metadata import describe_run_file
from dfqonnx.workflows.fit_to_memory import fit_to_memory
from dfqonnx.workflows.gpu_utilization import describe_gpu, sample_utilization
from dfqonnx.workflows.image_cache import ImageCache
from dfqonnx.workflows.image_supply import FirstImages, ImageSupply, find_first_images
from dfqonnx.workflows.kept_work import find_or_choose_widths, hash_images, open_work, shares_left
from dfqonnx.workflows.outline import tell_outline
from dfqonnx.workflows.preflight import check_disk, check_paths, preflight
from dfqonnx.workflows.prepare_measures import open_run_sets
from dfqonnx.workflows.process_group import open_ranks
from dfqonnx.workflows.rank_keeper import share_keeper
from dfqonnx.workflows.teacher import Teacher, choose_device, open_teacher
from dfqonnx.workflows.time_limits import Stopwatch, TimeLimits, find_or_fit

REHEARSAL_IMAGES = 2


def run(
    config: RunConfig, *, progress: Progress | None = None, cache: CacheUse | None = None
) -> Report:
    """Quantize a model and measure the result; everything is written to `config.out`.

    A run that was interrupted goes on where it was, unless `cache` says otherwise.

    Raises:
        UsageError: a path, a setting or evaluation data does not fit.
        UnsupportedModel: the model cannot be quantized; every offending node is named.
        EnvironmentProblem: the runtime, the device, disk space or a permission is missing.
    """
    (report,) = run_targets((config,), progress=progress, cache=cache)
    return report


def run_targets(
    configs: Sequence[RunConfig],
    *,
    progress: Progress | None = None,
    cache: CacheUse | None = None,
) -> tuple[Report, ...]:
    """Quantize a model for several targets, with the same images; return a report for each.

    Of a `torchrun` job, rank 0 writes and returns them, and the others return none.

    `configs` differ in nothing but `target`, `out` and `file`. Where images are looked for against
    a quantized network, it is that of the first target. A budget is for all of them.

    Raises:
        UsageError, UnsupportedModel, EnvironmentProblem: as for one; no target is begun before all
            were checked.
    """
    preflight(configs[0])
    for config in configs[1:]:
        check_paths(config)
    with open_ranks(on_gpus=choose_device(configs[0].device) == "cuda") as ranks:
        if ranks.rank:
            progress, cache = None, CacheUse(enabled=False)
        return _run_targets(configs, ranks, progress=progress, cache=cache or CacheUse())


def _run_targets(
    configs: Sequence[RunConfig], ranks: Ranks, *, progress: Progress | None, cache: CacheUse
) -> tuple[Report, ...]:
    """Do what this rank has to do for each target."""
    first, shown = configs[0], progress or SilentProgress()
    watch = Stopwatch(first.budget)
    kept = Cache(cache, shown.warn)
    recorder = RecordingProgress(shown)
    context = RunContext(
        seed=first.seed,
        device=choose_device(first.device),
        progress=recorder,
        budget_seconds=first.budget,
        ranks=ranks,
    )
    teacher = open_teacher(first, context)
    check_disk(first, pixels=pixel_bytes(first.recipe.synthesis, teacher.inputs.shape))
    first, *_ = configs = find_or_choose_widths(kept, configs, teacher, context)
    opening, plans = recorder.warnings, []
    for config in configs:  # warnings about a plan belong into the report of its target alone
        recorder.warnings = []
        plans.append((plan_quantizers(config, teacher, recorder), recorder.warnings))
    recorder.warnings = opening
    sets, own = open_run_sets(first, teacher.model, teacher.inputs)
    planned = teacher, plans[0][0]
    context = fit_to_memory(first, *planned, context)
    image_cache = ImageCache(cache=kept, config=first, planned=planned, own=own, context=context)
    shared = _Shared(sets, ImageSupply(image_cache.give))
    jobs = [
        _Job(config, (teacher, plan), [*opening, *warnings], shared)
        for config, (plan, warnings) in zip(configs, plans, strict=True)
    ]
    works = [open_work(kept, job.config, job.planned, own=own, context=context) for job in jobs]
    with hold(works, shown):
        watch = watch.after(max(work.spent for work in works))
        outline = None
        if progress is not None:
            begun = jobs[0].first_images(first.recipe, context)
            left = shares_left(
                works, has_images=image_cache.has(None if begun is None else begun.work)
            )
            within = context.with_budget(watch.left())
            outline = tell_outline(
                first, *planned, sets, targets=len(jobs), left=left, context=within
            )
        reports = _run_jobs(jobs, works, outline, context=context, watch=watch)
        for work in works:
            work.finish()
    return reports


@dataclass(frozen=True)
class _Shared:
    """What the targets of a run have in common besides the teacher."""

    sets: EvaluationData
    supply: ImageSupply


@dataclass(frozen=True)
class _Job:
    """What is to be done for one target."""

    config: RunConfig
    planned: tuple[Teacher, QuantizationPlan]
    warnings: list[str]  # about the model, and about the plan for this target
    shared: _Shared

    def first_images(self, recipe: Recipe, context: RunContext) -> FirstImages | None:
        """Return the images to begin with; `recipe` may be a shorter one than the config's."""
        teacher, plan = self.planned
        budget, memory = self.config.budget, context.memory
        return find_first_images(recipe, teacher, plan.narrowest(), budget=budget, memory=memory)


def _run_jobs(
    jobs: Sequence[_Job],
    works: Sequence[RunWork],
    outline: RunOutline | None,
    *,
    context: RunContext,
    watch: Stopwatch,
) -> tuple[Report, ...]:
    """Do one target after another; a budget is shared by those that are left."""
    recorder, reports = context.progress, list[Report]()
    assert isinstance(recorder, RecordingProgress)
    for job, work in zip(jobs, works, strict=True):
        left = len(jobs) - len(reports)
        recorder.warnings = job.warnings
        if outline is not None:
            recorder.expect(outline.expected(left, of=len(jobs)))
        keeper = share_keeper(work, context.ranks)
        own_context = replace(context, progress=recorder, keeper=keeper)
        with work.explained():
            if context.ranks.rank:
                _help_with_target(job, context=own_context, watch=watch.first_of(left))
            else:
                reports.append(_run_target(job, context=own_context, watch=watch.first_of(left)))
        recorder = recorder.begin_anew()
    return tuple(reports)


def _run_target(job: _Job, *, context: RunContext, watch: Stopwatch) -> Report:
    """Train, export, measure and write for one target."""
    config, teacher, recorder = job.config, job.planned[0], context.progress
    assert isinstance(recorder, RecordingProgress)
    interface = teacher.model.interface
    with closed_files(interface, config.model) as (original,), atomic_folder(config.out) as folder:
        limits = _agree_on_limits(job, context=context, watch=watch)
        with sample_utilization(context) as busy:
            trained = _train(job, limits, context=context, watch=watch)
        trained = _keep_faulty_apart(trained, recorder)
        file = _export(trained, folder, recorder)
        shown = limits.proof_images(len(trained.distilled.held_out), watch.left())
        files, sets = (original, file), job.shared.sets
        evaluation = _evaluate(
            trained, files, sets, images=shown, seconds=limits.latency_seconds, progress=recorder
        )
        estimates = limits.estimate_losses(*files, inputs=teacher.inputs, real=sets.real)
        evaluation = _open(trained, file, evaluation)
        report = assemble_report(
            trained,
            evaluation,
            estimates,
            seconds=recorder.seconds(),
            warnings=recorder.warnings,
            gpu=describe_gpu(context, busy.mean),
        )
        report = write_run(report, trained, folder, evaluation.found.pictures)
    if config.file is not None:
        copy_model(config.out / config.student_name, config.file)
    return report


def _help_with_target(job: _Job, *, context: RunContext, watch: Stopwatch) -> None:
    """Train with the other ranks; rank 0 has the same student, and does the rest."""
    _train(job, _agree_on_limits(job, context=context, watch=watch), context=context, watch=watch)


def _agree_on_limits(job: _Job, *, context: RunContext, watch: Stopwatch) -> TimeLimits:
    """Return what there is time for, as rank 0 measured it."""
    left = context.ranks.agree(watch.left())
    limits = find_or_fit(job.config.recipe, job.planned[0], left, context.keeper)
    return context.ranks.agree(limits)


def plan_quantizers(config: RunConfig, teacher: Teacher, progress: Progress) -> QuantizationPlan:
    """Return where quantizers stand, in a form that the runtime was seen to compute.

    Raises:
        UnsupportedModel: the target does not have an operator, or runs no such file.
    """
    target, inputs = TARGETS[config.target], teacher.inputs
    check_operators(teacher.model.ir, target)

    def place(kept_float: Mapping[str, str]) -> QuantizationPlan:
        return place_quantizers(
            teacher.model,
            config.quant,
            target,
            input_signed=inputs.signed,
            kept_float=kept_float,
            rules=config.nodes,
        )

    rng = np.random.default_rng(config.seed)
    pixels = make_probe_images(
        inputs.image_size, rng=rng, count=REHEARSAL_IMAGES, photo=inputs.is_image
    )
    return rehearse(
        teacher.model,
        place,
        inputs.to_tensor(pixels),
        storage=config.quant.weight_storage,
        progress=progress,
    )


def _train(job: _Job, limits: TimeLimits, *, context: RunContext, watch: Stopwatch) -> TrainedRun:
    """Make images, equalize, and train in the time that the proof leaves; see `image_supply`."""
    (teacher, plan), config, recipe = job.planned, job.config, limits.recipe
    first = job.first_images(recipe, context)
    for begun in [first, None] if first is not None else [None]:
        left = context.ranks.agree(watch.left())
        work = None if begun is None else begun.work
        images = job.shared.supply.give(work, context.with_budget(left))
        context.keeper.use_images(hash_images(images))
        network = equalize(
            teacher.program,
            plan,
            teacher.model.statistics,
            spec=recipe.equalization,
            inputs=teacher.inputs,
            progress=context.progress,
        )
        student = Student(network.program, network.plan)
        left = context.ranks.agree(watch.left())
        distilled = distill(
            network,
            student,
            images,
            config=recipe.distillation,
            equalization=recipe.equalization,
            inputs=teacher.inputs,
            context=context.with_budget(
                left and max(1.0, left - limits.proof_seconds(len(images.pixels)))
            ),
            train_up_to=math.inf if begun is None else begun.train_up_to,
        )
        if not distilled.left_out:
            break
    if not TARGETS[config.target].divides and teacher.inputs.is_image:
        _move_input_off_ties(student, teacher.inputs)
    return TrainedRun(
        config=config,
        teacher=teacher,
        images=images,
        network=network,
        student=student,
        distilled=distilled,
    )


def _move_input_off_ties(student: Student, inputs: InputFormat) -> None:
    """Set the scale of the input so that no pixel is on the border between two codes."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    pixels = torch.from_numpy(levels.repeat(inputs.image_size[2], 3))
    for quantizer in student.quantizers():
        if quantizer.spec.role == "input":
            move_off_ties(quantizer, inputs.to_tensor(pixels).to(quantizer.log_scale.device))


def _keep_faulty_apart(run: TrainedRun, progress: Progress) -> TrainedRun:
    """Return the run with nodes kept from kernels that compute other codes with its numbers."""
    network, teacher = run.network, run.teacher
    pixels = run.held_out_pixels()[:REHEARSAL_IMAGES]
    if not len(pixels):
        return run
    stage = Stage(
        model=teacher.model,
        place=lambda kept_float: network.plan,
        parameters=lambda plan: run.student.qparams(),
        x=teacher.inputs.to_tensor(pixels),
        storage=run.config.quant.weight_storage,
        progress=progress,
    )
    plan = keep_faulty_apart(stage, network.plan)
    return replace(run, network=replace(network, plan=plan))


def _export(run: TrainedRun, folder: Path, progress: Progress) -> Path:
    config, teacher = run.config, run.teacher
    file = folder / config.student_name
    progress.start("export", 1)
    exported = export(
        teacher.model,
        run.network.plan,
        run.student.qparams(),
        storage=config.quant.weight_storage,
        metadata=describe_run_file(config, teacher),
    )
    write(exported, file)
    progress.advance()
    return file


def _evaluate(
    run: TrainedRun,
    files: tuple[Path, Path],
    sets: EvaluationData,
    *,
    images: int,
    seconds: float,
    progress: Progress,
) -> RunEvaluation:
    """Measure the exported file, `files[1]`, against the float one and the torch student.

    As many held-out `images` are passed through both, and `seconds` are for timing them.
    """
    student, inputs, distilled = run.student, run.teacher.inputs, run.distilled
    pixels = run.held_out_pixels()[:images]
    torch_run = run_student(student, pixels, inputs, fed=run.teacher.model.contract.fed_type)
    data = dataclasses.replace(sets, pixels=pixels, torch_run=torch_run)
    found = evaluate(*files, data, latency_seconds=seconds, progress=progress)
    same = class_agreement(student, sets.data, found, inputs)
    untrained = None
    if distilled.kept and found.evaluation is not None and found.evaluation.drop is not None:
        untrained = untrained_top1(student, distilled.untrained, sets.data, inputs)
    return RunEvaluation(
        file=files[1].name, images=data, found=found, same_class=same, untrained=untrained
    )


def _open(run: TrainedRun, file: Path, evaluation: RunEvaluation) -> RunEvaluation:
    """Give the exported file the user's inputs; what is said of both files is said of these."""
    if run.teacher.model.interface.is_plain:
        return evaluation
    x = run.teacher.inputs.to_tensor(run.images.pixels[:1])
    open_file(file, run.teacher.model.interface, x)
    found = replace(
        evaluation.found, teacher=measure_file(run.config.model), student=measure_file(file)
    )
    return replace(evaluation, found=found)
