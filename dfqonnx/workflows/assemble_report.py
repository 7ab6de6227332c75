"""What the page shows of a run beside its figures, gathered from the rooms as values."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from dfqonnx.analysis.layer_noise import analyze_layer_noise
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.layer_analysis import LayerNoise
from dfqonnx.distill.distill import Distilled
from dfqonnx.evaluation.outputs import Classes
from dfqonnx.evaluation.statistics import Interval, wilson_interval
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.summary import summarize_graph
from dfqonnx.report.report import Report
from dfqonnx.report.sections import ClassesSeen, Training, TrainingLogEntry
from dfqonnx.synthesis.pixels import to_tensor

IMAGES = 64  # that a portrait is made from, where the network is small


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Synthetic images that nothing was trained on.

    Attributes:
        pixels: uint8 (N, H, W, C).
        at: their places among all images of the run.
    """

    pixels: NDArray[np.uint8]
    at: tuple[int, ...]


def assemble_report(
    report: Report,
    model: NormalizedModel,
    trained: Distilled,
    held: HeldOut,
    *,
    classes: Classes | None,
    portrait: LayerNoise | None,
    untrained: Interval | None = None,
) -> Report:
    """Return `report` with training (and the untrained top-1), classes, portrait and graph."""
    return dataclasses.replace(
        report,
        training=_training(trained, len(held.pixels), untrained),
        seen=None if classes is None else ClassesSeen(held.at, classes.teacher, classes.student),
        portrait=portrait,
        graph=summarize_graph(model),
    )


def look(
    student: Student,
    teacher: Program,
    model: NormalizedModel,
    *,
    held: HeldOut,
    inputs: InputFormat,
) -> LayerNoise | None:
    """Return the student's portrait, on the CPU; None without images."""
    student.to("cpu").eval()
    pixels = held.pixels[:IMAGES]
    if not len(pixels):
        return None
    x = to_tensor(torch.from_numpy(pixels), inputs, shape=model.input_shape)
    return analyze_layer_noise(student, teacher, x)


def _training(trained: Distilled, images: int, top1: Interval | None) -> Training:
    before = trained.agreement_before
    return Training(
        trained.steps,
        trained.kept,
        trained.reason,
        None
        if before.top1 is None or not images
        else wilson_interval(round(before.top1 * images), images),
        before.kl if images else None,
        trained.agreement_after.kl if images else None,
        tuple(
            TrainingLogEntry(m.step, m.seconds, m.loss, m.rate, m.width) for m in trained.history
        ),
        before.error if images else None,
        trained.agreement_after.error if images else None,
        top1,
        trained.seen,
    )
