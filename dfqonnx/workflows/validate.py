"""Hold a quantized file against its float teacher: `dfqonnx validate`. Needs no torch.

Without evaluation data both are compared on the images that the student's own run kept from
training, where they lie beside it, else on procedural ones: they show parity, integer kernels,
speed and rough agreement, not accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.commands import ValidateConfig
from dfqonnx.core.atomic_write import atomic_folder
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, RecordingProgress, SilentProgress
from dfqonnx.data.probe_images import paint_probe_images
from dfqonnx.data.unlabeled import held_out_images
from dfqonnx.evaluation.evaluate import EvaluationData, evaluate
from dfqonnx.export.metadata import (
    read_metadata,
    recorded_image_size,
    recorded_quantization,
)
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.placement.place import place_quantizers
from dfqonnx.report.build import build_report
from dfqonnx.report.environment import describe_environment, peak_memory_mib
from dfqonnx.report.files import write_report
from dfqonnx.report.gate_verdicts import apply_gates
from dfqonnx.report.report import Report
from dfqonnx.report.sections import BitFacts
from dfqonnx.targets.profile import recorded_target
from dfqonnx.workflows.preflight import check_comparison
from dfqonnx.workflows.resolve_inputs import (
    ResolvedInputs,
    estimate,
    open_eval_data,
    open_real,
    resolve_inputs,
)


def validate(spec: ValidateConfig, *, progress: Progress | None = None) -> Report:
    """Measure a student against its teacher; writes to `spec.out` where that is given.

    Raises:
        UsageError: a path, or files and data that do not fit each other.
        UnsupportedModel: the teacher is none that dfqonnx can read.
        EnvironmentProblem: runtime or permission.
    """
    progress = RecordingProgress(progress or SilentProgress())
    check_comparison(spec)
    metadata = read_metadata(spec.student)
    model = open_model(spec.teacher, image_size=spec.image_size or recorded_image_size(metadata))
    inputs = resolve_inputs(
        spec.preprocess,
        model,
        metadata={**model.source.metadata, **metadata},  # the student knows better
        seed=spec.seed,
        progress=progress,
    )
    data = open_eval_data(spec.eval_data, model, inputs.format)
    real = open_real(spec.images, inputs.format)
    pixels = None if data else _pixels(spec, inputs.format, progress)
    found = evaluate(
        spec.teacher, spec.student, EvaluationData(inputs.format, pixels, data), progress=progress
    )
    quant = recorded_quantization(metadata)
    estimated = estimate(spec.teacher, spec.student, inputs.format, real=real)
    report = build_report(found, kept_float=_floats(model, metadata, inputs))
    report = dataclasses.replace(
        report,
        estimated_drop=estimated,
        bits=None if quant is None else BitFacts.of(quant),
        seconds=progress.seconds(),
        peak_memory_mib=peak_memory_mib(),
        preprocess=dataclasses.asdict(inputs.format.preprocessing),
        preprocess_guessed=inputs.guessed,
        warnings=(*progress.warnings, *report.warnings),
        environment=describe_environment(),
    )
    report = apply_gates(report, spec.gates, strict=spec.strict_gates)
    if spec.out is None:
        return report
    with atomic_folder(spec.out) as folder:
        return write_report(report, folder)


def _pixels(spec: ValidateConfig, inputs: InputFormat, progress: Progress) -> NDArray[np.uint8]:
    size = inputs.image_size
    own = held_out_images(spec.student, size)
    if own is not None:
        progress.note(
            f"The files are compared on {len(own)} images that the student's run held out."
        )
        return own
    rng = np.random.default_rng(spec.seed)
    pixels = paint_probe_images(size, rng=rng, photo=inputs.is_image)
    progress.note(f"The files are compared on {len(pixels)} procedural images.")
    return pixels


def _floats(
    model: NormalizedModel, metadata: Mapping[str, str], inputs: ResolvedInputs
) -> set[str]:
    """Return the nodes that the student's run left in float on purpose."""
    quant = recorded_quantization(metadata)
    if quant is None:
        return set()
    target = recorded_target(metadata)
    plan = place_quantizers(model, quant, target, input_signed=inputs.format.signed)
    return {node.node for node in plan.floats}
