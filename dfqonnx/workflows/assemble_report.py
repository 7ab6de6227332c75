"""From what a run made to its report and its output folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.analysis.layer_noise import analyze_layer_noise
from dfqonnx.config.commands import RunConfig
from dfqonnx.config.recipe import write_recipe
from dfqonnx.config.request import command_of
from dfqonnx.core.layer_analysis import LayerNoise
from dfqonnx.distill.distilled import Distilled
from dfqonnx.equalization.equalize import EqualizedNetwork
from dfqonnx.evaluation.drop_estimate.estimate import Estimates
from dfqonnx.evaluation.evaluate import Evaluation, EvaluationData
from dfqonnx.evaluation.measures.side_pictures import SidePicture
from dfqonnx.evaluation.statistics import Interval, wilson_interval
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.cost import summarize_graph
from dfqonnx.report.build import build_report
from dfqonnx.report.environment import describe_environment, peak_memory_mib
from dfqonnx.report.evidence_warnings import add_evidence
from dfqonnx.report.files import write_arrays, write_images, write_log, write_report
from dfqonnx.report.gate_verdicts import apply_gates
from dfqonnx.report.report import Report
from dfqonnx.report.sections import (
    BitFacts,
    HeldOutClasses,
    ImageFacts,
    TrainingFacts,
    TrainingLogEntry,
)
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.targets.profile import TARGETS
from dfqonnx.workflows.gather_evidence import gather_evidence
from dfqonnx.workflows.teacher import Teacher

IMAGES = 64  # that layer noise is measured on


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What a run made before its file is exported."""

    config: RunConfig
    teacher: Teacher
    images: SyntheticImages
    network: EqualizedNetwork  # the float network that the student is a copy of
    student: Student
    distilled: Distilled

    def held_out_pixels(self) -> NDArray[np.uint8]:
        """Return the synthetic images (N, H, W, C) that nothing was trained on."""
        return self.images.pixels[np.array(self.distilled.held_out, np.int64)]


@dataclass(frozen=True, kw_only=True)
class RunEvaluation:
    """What was measured of an exported file."""

    file: str  # its name
    images: EvaluationData  # what it was measured on
    found: Evaluation
    same_class: tuple[float, int] | None  # share that file and torch student class alike, of images
    untrained: Interval | None  # top-1 in percent before the first training step


def assemble_report(
    run: TrainedRun,
    evaluation: RunEvaluation,
    estimates: Estimates,
    *,
    seconds: Mapping[str, float],
    warnings: Sequence[str],
    gpu: str | None,
) -> Report:
    """Return the report of a run, the user's gates applied."""
    found, config, teacher = evaluation.found, run.config, run.teacher
    classes = None if found.synthetic is None else found.synthetic.classes
    kept_float = {node.node for node in run.network.plan.floats}
    report = build_report(
        found,
        kept_float=kept_float,
        evaluation_same_class=evaluation.same_class,
        target=TARGETS[run.network.plan.target],
    )
    report = dataclasses.replace(
        report,
        student=dataclasses.replace(report.student, path=evaluation.file),
        bits=BitFacts.of(config.quant, config.nodes),
        seconds=dict(seconds),
        peak_memory_mib=peak_memory_mib(),
        recipe=config.recipe.title,
        seed=config.seed,
        preprocess=dataclasses.asdict(teacher.inputs.preprocessing),
        preprocess_guessed=teacher.inputs_guessed,
        images=_describe_images(run),
        warnings=(*warnings, *report.warnings),
        skipped_rewrites=teacher.model.skipped,
        environment=describe_environment(gpu),
        command=command_of(config),
        estimated_drop=estimates.drop,
        estimated_agreement=estimates.agreement,
        training=_training(run.distilled, evaluation.untrained),
    )
    facts = gather_evidence(
        teacher.model,
        evaluation.images,
        found,
        recorded={str(config.model): teacher.model.source.metadata},
        kept_float=kept_float,
    )
    report = apply_gates(add_evidence(report, facts), config.gates, strict=config.strict)
    return dataclasses.replace(
        report,
        held_out_classes=None
        if classes is None
        else HeldOutClasses(run.distilled.held_out, classes.teacher, classes.student),
        layer_noise=_layer_noise(run),
        graph=summarize_graph(teacher.model),
        bit_choice=None if config.search is None else config.search.choice,
    )


def _describe_images(run: TrainedRun) -> ImageFacts:
    images = run.images
    return ImageFacts(
        source=images.source,
        count=len(images.synthetic),
        own=images.own,
        batchnorm=run.teacher.model.batchnorm,
        guided_by=images.reason,
        divergence=images.divergence,
    )


def write_run(
    report: Report, run: TrainedRun, folder: Path, pictures: Sequence[SidePicture] = ()
) -> Report:
    """Write everything of an output folder but the model; return the report with every file."""
    images = run.images
    write_images(
        images.synthetic,
        folder / "synthetic",
        held=run.distilled.held_out,
        source=images.source,
        classes=report.held_out_classes,
    )
    if images.generators is not None:
        write_arrays(images.generators.state(), folder / "synthetic" / "generator.npz")
    recipe = write_recipe(run.config.recipe, header=command_of(run.config))
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    write_log(_log_events(images, run.distilled), folder / "log.jsonl")
    return write_report(report, folder, pixels=images.synthetic, pictures=pictures)


def _log_events(images: SyntheticImages, distilled: Distilled) -> Iterator[dict[str, Any]]:
    yield {
        "stage": "synthesize",
        "seconds": images.seconds,
        "source": images.source,
        **dataclasses.asdict(images.plan),
    }
    for entry in distilled.history:
        yield {"stage": "distill", **dataclasses.asdict(entry)}
    yield {
        "stage": "distilled",
        "steps": distilled.steps,
        "seconds": distilled.seconds,
        "agreement_before": distilled.agreement_before.top1,
        "agreement_after": distilled.agreement_after.top1,
        "kept": distilled.kept,
        "reason": distilled.reason,
    }


def _layer_noise(run: TrainedRun) -> LayerNoise | None:
    """Return the noise of every layer, measured on the CPU; None without images."""
    run.student.to("cpu").eval()
    pixels = run.held_out_pixels()[:IMAGES]
    if not len(pixels):
        return None
    x = run.teacher.inputs.to_tensor(torch.from_numpy(pixels))
    return analyze_layer_noise(run.student, run.network.program, x)


def _training(distilled: Distilled, top1: Interval | None) -> TrainingFacts:
    images, before = len(distilled.held_out), distilled.agreement_before
    after = distilled.agreement_after
    facts = TrainingFacts(
        steps=distilled.steps,
        kept=distilled.kept,
        reason=distilled.reason,
        log=tuple(
            TrainingLogEntry(
                step=entry.step,
                seconds=entry.seconds,
                loss=entry.loss,
                lr_factor=entry.lr_factor,
                rounding_temperature=entry.rounding_temperature,
            )
            for entry in distilled.history
        ),
        untrained_top1=top1,
        images_seen=distilled.images_seen,
    )
    if not images:
        return facts
    agreed = None if before.top1 is None else round(before.top1 * images)
    return dataclasses.replace(
        facts,
        untrained_agreement=None if agreed is None else wilson_interval(agreed, images),
        untrained_kl=before.kl,
        trained_kl=after.kl,
        untrained_error=before.error,
        trained_error=after.error,
    )
