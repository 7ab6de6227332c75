"""Hold a quantized file against its float teacher: `dfqonnx validate`.

Without evaluation data both are compared on procedural images, which need nothing from the user:
they show parity, integer kernels, speed and rough agreement, not accuracy.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dfqonnx.convert.program import Program, to_program
from dfqonnx.graph.load import load
from dfqonnx.graph.model import Model
from dfqonnx.graph.normalise import normalise
from dfqonnx.graph.sites import choose_sites
from dfqonnx.outfolder import staged
from dfqonnx.preflight import check_comparison
from dfqonnx.prepare import Inputs, open_eval_data, settle_inputs
from dfqonnx.progress import Progress, Remembering, Silent
from dfqonnx.report.build import build
from dfqonnx.report.environment import environment, peak_rss_mb
from dfqonnx.report.gates import judged
from dfqonnx.report.model import Report, widths
from dfqonnx.report.write import write_report
from dfqonnx.spec.quant import Bits, QuantSpec
from dfqonnx.spec.run import ValidateSpec
from dfqonnx.spec.synth import SynthSpec
from dfqonnx.synth.synthesise import synthesise
from dfqonnx.validate.metadata import read_metadata
from dfqonnx.validate.validation import Material, validate

IMAGES = 256


def verify(spec: ValidateSpec, *, progress: Progress | None = None) -> Report:
    """Measure a student against its teacher; writes to `spec.out` where that is given.

    Raises:
        UsageError: a path, or files and data that do not fit each other.
        UnsupportedModel: the teacher is none that dfqonnx can read.
        EnvironmentProblem: runtime or permission.
    """
    began = time.perf_counter()
    progress = Remembering(progress or Silent())
    check_comparison(spec)
    metadata = read_metadata(spec.student)
    model = normalise(load(spec.teacher))
    teacher = to_program(model)
    inputs = settle_inputs(
        spec.inputs, model, teacher, metadata=metadata, seed=spec.seed, progress=progress
    )
    data = open_eval_data(spec.eval_data, model, inputs.spec)
    pixels = None if data else _pixels(model, teacher, inputs, seed=spec.seed, progress=progress)
    found = validate(
        spec.teacher, spec.student, Material(inputs.spec, pixels, data), progress=progress
    )
    quant = _quant(metadata)
    report = build(found, kept_float=_floats(model, quant, inputs))
    report = dataclasses.replace(
        report,
        bits=None if quant is None else widths(quant),
        seconds={"total": time.perf_counter() - began},
        peak_rss_mb=peak_rss_mb(),
        preprocess=dataclasses.asdict(inputs.spec),
        preprocess_guessed=inputs.guessed,
        warnings=(*progress.warnings, *report.warnings),
        environment=environment(),
    )
    report = judged(report, spec.gates, strict=spec.strict_gates)
    if spec.out is None:
        return report
    with staged(spec.out) as folder:
        return write_report(report, folder)


def _pixels(
    model: Model, teacher: Program, inputs: Inputs, *, seed: int, progress: Progress
) -> NDArray[np.uint8]:
    source = "leaves" if len(model.input_shape) == 3 else "noise"
    images = synthesise(
        teacher,
        {},
        inputs=inputs.spec,
        shape=model.input_shape,
        spec=SynthSpec(source=source, images=IMAGES),
        seed=seed,
        device="cpu",
        progress=progress,
    )
    return images.pixels


def _quant(metadata: Mapping[str, str]) -> QuantSpec | None:
    """Return the widths that the student's own metadata tell."""
    if "dfqonnx.bits" not in metadata:
        return None
    ends = metadata.get("dfqonnx.strict_ends")
    stream = int(metadata.get("dfqonnx.stream", "8"))
    return QuantSpec(Bits.parse(metadata["dfqonnx.bits"]), int(ends) if ends else None, stream)


def _floats(model: Model, quant: QuantSpec | None, inputs: Inputs) -> set[str]:
    """Return the nodes that a run would leave in float on purpose."""
    if quant is None:
        return set()
    sites = choose_sites(model, quant, input_signed=inputs.spec.signed)
    return {site.node for site in sites.floats}
