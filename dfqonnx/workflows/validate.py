"""`dfqonnx validate`: measure a quantized file against its float teacher. Needs no torch.

Without evaluation data both are compared on the images that the student's own run held out from
training, where they lie beside it, or else on procedural ones: they show parity, integer kernels,
speed and rough agreement, not accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dfqonnx.config.commands import ValidateConfig
from dfqonnx.config.input_values import recorded_inputs
from dfqonnx.core.atomic_write import atomic_folder
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import Progress, RecordingProgress, SilentProgress
from dfqonnx.core.quantization import QuantizationConfig
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.data.text_images import is_line_of_text, mix_in_text
from dfqonnx.data.unlabeled import read_held_out_images
from dfqonnx.evaluation.drop_estimate.estimate import estimate_losses
from dfqonnx.evaluation.evaluate import evaluate
from dfqonnx.evaluation.file_size import measure_file
from dfqonnx.export.closed_files import closed_files
from dfqonnx.export.metadata import (
    read_metadata,
    recorded_image_size,
    recorded_quantization,
    recorded_rules,
)
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import open_model
from dfqonnx.placement.place import place_quantizers
from dfqonnx.report.build import build_report
from dfqonnx.report.environment import describe_environment, peak_memory_mib
from dfqonnx.report.evidence_warnings import add_evidence
from dfqonnx.report.files import write_report
from dfqonnx.report.gate_verdicts import apply_gates
from dfqonnx.report.report import Report
from dfqonnx.report.sections import BitFacts
from dfqonnx.targets.profile import recorded_target
from dfqonnx.workflows.gather_evidence import gather_evidence
from dfqonnx.workflows.preflight import preflight_validation
from dfqonnx.workflows.prepare_measures import open_sets
from dfqonnx.workflows.resolve_inputs import resolve_inputs


def validate(config: ValidateConfig, *, progress: Progress | None = None) -> Report:
    """Measure a student against its teacher; write the report to `config.out` where that is given.

    Raises:
        UsageError: a path is wrong, or files and data do not fit each other.
        UnsupportedModel: dfqonnx cannot read the teacher.
        EnvironmentProblem: the runtime or a permission is missing.
    """
    progress = RecordingProgress(progress or SilentProgress())
    preflight_validation(config)
    metadata = read_metadata(config.student)
    model = open_model(
        config.teacher,
        image_size=config.image_size or recorded_image_size(metadata),
        given={**recorded_inputs(metadata), **config.inputs},
    )
    inputs = resolve_inputs(
        config.preprocess,
        model,
        metadata={**model.source.metadata, **metadata},  # the student's entries win
        seed=config.seed,
        progress=progress,
    )
    sets = open_sets(config, model, inputs.format)
    pixels = None if sets.data else _choose_pixels(config, inputs.format, progress)
    sets = dataclasses.replace(sets, pixels=pixels)
    with closed_files(model.interface, config.teacher, config.student) as (first, second):
        found = evaluate(first, second, sets, progress=progress)
        estimated = estimate_losses(first, second, inputs=inputs.format, real=sets.real)
    found = dataclasses.replace(
        found, teacher=measure_file(config.teacher), student=measure_file(config.student)
    )
    quant = recorded_quantization(metadata)
    kept_float = _find_kept_float(model, quant, metadata, signed=inputs.format.signed)
    report = build_report(found, kept_float=kept_float, target=recorded_target(metadata))
    report = dataclasses.replace(
        report,
        estimated_drop=estimated.drop,
        estimated_agreement=estimated.agreement,
        bits=None if quant is None else BitFacts.of(quant, recorded_rules(metadata)),
        seconds=progress.seconds(),
        peak_memory_mib=peak_memory_mib(),
        preprocess=dataclasses.asdict(inputs.format.preprocessing),
        preprocess_guessed=inputs.guessed,
        warnings=(*progress.warnings, *report.warnings),
        environment=describe_environment(),
    )
    recorded = {str(config.teacher): model.source.metadata, str(config.student): metadata}
    report = add_evidence(
        report, gather_evidence(model, sets, found, recorded=recorded, kept_float=kept_float)
    )
    report = apply_gates(report, config.gates, strict=config.strict)
    if config.out is None:
        return report
    with atomic_folder(config.out) as folder:
        return write_report(report, folder, pictures=found.pictures)


def _find_kept_float(
    model: NormalizedModel,
    quant: QuantizationConfig | None,
    metadata: Mapping[str, str],
    *,
    signed: bool,
) -> set[str]:
    """Return the nodes that were left in float on purpose; none where the file does not say."""
    if quant is None:
        return set()
    target, rules = recorded_target(metadata), recorded_rules(metadata)
    plan = place_quantizers(model, quant, target, input_signed=signed, rules=rules)
    return {node.node for node in plan.floats}


def _choose_pixels(
    config: ValidateConfig, inputs: InputFormat, progress: Progress
) -> NDArray[np.uint8]:
    size = inputs.image_size
    held = read_held_out_images(config.student, size)
    if held is not None:
        progress.note(
            f"The files are compared on {len(held)} images that the student's run held out."
        )
        return held
    rng = np.random.default_rng(config.seed)
    pixels = make_probe_images(size, rng=rng, photo=inputs.is_image)
    if inputs.is_image and is_line_of_text(size):
        pixels = mix_in_text(pixels, rng)
    progress.note(f"The files are compared on {len(pixels)} procedural images.")
    return pixels
