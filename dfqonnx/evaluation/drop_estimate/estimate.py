"""The drop in top-1 of a quantized file, estimated without a label; with it the agreement.

    fixed images -> both files -> noise over signal -> regression -> points, 90 % interval

Real images, where the user has a few, take the place of the fixed ones; the teacher's certainty is
measured on the fixed ones in either case. There is no estimate, and a reason instead, where the
output holds no classes, or too few; where the network is more or less certain than any of the
calibration; where the model reads no image. A student beyond the worst of the calibration gets an
interval that is open upwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.evaluation.agreement_estimate.estimate_agreement import (
    AgreementEstimate,
    estimate_agreement,
    explain_class_count,
    explain_outputs,
)
from dfqonnx.evaluation.drop_estimate.calibration_set import read_known_students
from dfqonnx.evaluation.drop_estimate.fixed_images import make_fixed_images
from dfqonnx.evaluation.drop_estimate.noise_ratio import (
    certainty,
    fixed_images_ratio,
    real_images_ratio,
)
from dfqonnx.evaluation.drop_estimate.regression import (
    Basis,
    CrossValidation,
    cross_validate,
    predictors,
    shipped_predictions,
    shipped_regression,
)
from dfqonnx.evaluation.outputs import output_kind
from dfqonnx.runtime.session import Provider, Session

Pixels = NDArray[np.uint8]
Outputs = NDArray[Any]
FEWEST_REAL, MOST_REAL = 32, 256
FEWEST_CLASSES, MOST_CLASSES = 5, 2000
ONLY_ORDER = (  # docs/estimate.md has the evidence
    "synthetic inputs mostly tell which of two files is the better one, not what is lost on real"
    " inputs: give some with --eval-data"
)
SLACK = 0.1  # of certainty beyond that of the known networks
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The drop in top-1 as far as it can be estimated without labels, in points."""

    value: float | None = None  # None where there is none
    low: float | None = None  # of the 90 % interval
    high: float | None = None
    basis: str = "nothing"  # the images that it was measured on, in words
    reason: str = ""  # why there is no estimate, or what to know about it; empty otherwise
    images: int = 0
    noise: float | None = None  # power of the student's error over that of the teacher's outputs
    certainty: float | None = None  # the teacher's certainty on the fixed images, 0..1
    record: CrossValidation | None = None  # on networks that were left out of the calibration


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What is estimated of a classifier without labels."""

    drop: Estimate
    agreement: AgreementEstimate


def estimate_losses(
    teacher: Path,
    student: Path,
    *,
    inputs: InputFormat,
    real: Pixels | None = None,
    provider: Provider = "cpu",
) -> Estimates:
    """Return drop and agreement of a file as far as they can be estimated.

    `real` are unlabeled images (N, H, W, C), if any; they serve the drop alone, because agreement
    is measured on them.
    """
    if not inputs.is_image:
        return explain_no_estimates(f"the model reads no image, and {ONLY_ORDER}")
    pair = Session(teacher, provider=provider), Session(student, provider=provider)
    name, classes = _find_scores(pair[0], inputs)
    if not classes:
        return explain_no_estimates(f"no output holds classes, and {ONLY_ORDER}")
    refusals = explain_classes_of_drop(classes), explain_class_count(classes)
    if all(refusals):
        return Estimates(
            drop=Estimate(reason=refusals[0]), agreement=AgreementEstimate(reason=refusals[1])
        )
    pixels = np.concatenate(list(make_fixed_images(inputs.image_size).values()))
    fixed = [_run(session, name, pixels, inputs) for session in pair]
    agreement = estimate_agreement(*fixed)
    if refusals[0] or real is None:
        drop = estimate_from_outputs("fixed", fixed[0], fixed)
    elif len(real) < FEWEST_REAL:
        note = f"fewer than {FEWEST_REAL} real images say no more than the fixed ones"
        drop = estimate_from_outputs("fixed", fixed[0], fixed, note=note)
    else:
        spread = np.linspace(0, len(real) - 1, min(len(real), MOST_REAL)).astype(int)
        found = [_run(session, name, real[spread], inputs) for session in pair]
        drop = estimate_from_outputs("real", fixed[0], found)
    return Estimates(drop=drop, agreement=agreement)


def explain_no_estimates(reason: str) -> Estimates:
    """Return that nothing is estimated, and why."""
    return Estimates(drop=Estimate(reason=reason), agreement=AgreementEstimate(reason=reason))


def estimate_from_outputs(
    basis: Basis, fixed: Outputs, outputs: list[Outputs], *, note: str = ""
) -> Estimate:
    """Return the estimate from the outputs (N, K) of teacher and student on the `basis` images.

    `fixed` are the teacher's on the fixed images.
    """
    count = len(outputs[0])
    found = Estimate(basis=f"{count} {basis} images", images=count)
    if refusal := explain_classes_of_drop(fixed.shape[1]) or explain_outputs(fixed, *outputs):
        return replace(found, reason=refusal)
    ratio = (fixed_images_ratio if basis == "fixed" else real_images_ratio)(*outputs)
    certain = certainty(fixed)
    record = cross_validate(shipped_predictions(basis))
    found = replace(found, reason=note, noise=ratio, certainty=certain, record=record)
    known = [predictors(student, basis) for student in read_known_students()]
    least, most = min(c for _, c in known), max(c for _, c in known)
    if not least - SLACK <= certain <= most + SLACK:
        which = "less" if certain < least else "more"
        why = (
            f"the float model is {which} certain of the fixed images ({certain:.2f}) than any"
            f" network of the calibration ({least:.2f} to {most:.2f})"
        )
        return replace(found, reason=why)
    worst = max(r for r, _ in known)
    value, low, high = shipped_regression(basis).predict(min(ratio, worst), certain)
    if ratio > worst:
        high, note = 100.0, "further from the float model than any student of the calibration"
    return replace(found, value=value, low=low, high=high, reason=note)


def explain_classes_of_drop(classes: int) -> str:
    """Return why a network of so many classes cannot be estimated; empty where it can."""
    if FEWEST_CLASSES <= classes <= MOST_CLASSES:
        return ""
    return (
        f"{classes} classes; the calibration has networks of 10 to 1,000, and the estimate"
        f" reaches from {FEWEST_CLASSES} to {MOST_CLASSES:,}"
    )


def _find_scores(session: Session, inputs: InputFormat) -> tuple[str, int]:
    """Return the first output that holds classes, and how many; an empty name without one."""
    x = inputs.to_tensor(np.zeros((1, *inputs.image_size), np.uint8))
    found = session.run_batched({session.inputs[0].name: x})
    scores = ((name, v.shape[1]) for name, v in found.items() if output_kind(v) == "classes")
    return next(scores, ("", 0))


def _run(session: Session, output: str, pixels: Pixels, inputs: InputFormat) -> Outputs:
    name, parts = session.inputs[0].name, []
    for start in range(0, len(pixels), _CHUNK):
        x = inputs.to_tensor(pixels[start : start + _CHUNK])
        parts.append(session.run_batched({name: x}, outputs=[output])[output])
    return np.concatenate(parts)
