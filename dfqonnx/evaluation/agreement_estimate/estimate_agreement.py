"""How often a quantized classifier gives the float model's class on real inputs, estimated.

    outputs of both on the fixed images -> noise over signal, doubt -> regression -> share, 90 %

There is no estimate, and a reason instead, where the float model chooses one class for all fixed
images: then nothing moves over a border there; and where it is more or less certain of them than
any network of the calibration. A student at least as far from its teacher as the worst of the
calibration gets an interval that is open downwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.agreement_estimate.agreement_regression import (
    cross_validate_agreement,
    shipped_agreement_regression,
    shipped_agreements,
)
from dfqonnx.evaluation.agreement_estimate.known_agreements import read_known_agreements
from dfqonnx.evaluation.drop_estimate.noise_ratio import fixed_images_ratio
from dfqonnx.evaluation.drop_estimate.regression import CrossValidation
from dfqonnx.evaluation.statistics import log_probabilities

Outputs = NDArray[Any]
FEWEST_CLASSES, MOST_CLASSES = 2, 2000
DIGITS = 1e-5  # of figures in the table
SLACK = 1.5  # times less doubt, or less certainty, than any known network has


@dataclass(frozen=True, kw_only=True)
class AgreementEstimate:
    """The agreement on real inputs as far as it can be estimated without any, 0..1."""

    value: float | None = None  # None where there is none
    low: float | None = None  # of the 90 % interval
    high: float | None = None
    basis: str = "nothing"  # the images that it was measured on, in words
    reason: str = ""  # why there is no estimate, or what to know about it; empty otherwise
    images: int = 0
    noise: float | None = None  # power of the student's error over that of the teacher's outputs
    doubt: float | None = None  # 1 - the teacher's mean largest probability
    record: CrossValidation | None = None  # on networks that were left out of the calibration


def mean_doubt(outputs: Outputs) -> float:
    """Return 1 - the mean over images of the largest probability, of outputs (N, K)."""
    return float(1 - np.exp(log_probabilities(outputs)).max(1).mean())


def estimate_agreement(teacher: Outputs, student: Outputs) -> AgreementEstimate:
    """Return the estimate from the outputs (N, K) of both on the fixed images."""
    count, classes = teacher.shape
    found = AgreementEstimate(basis=f"{count} fixed images", images=count)
    if refusal := explain_refusal(teacher, student):
        return replace(found, reason=refusal)
    noise, doubt = fixed_images_ratio(teacher, student), mean_doubt(teacher)
    record = cross_validate_agreement(shipped_agreements())
    found = replace(found, noise=noise, doubt=doubt, record=record)
    known = read_known_agreements()
    least, most = min(k.doubt for k in known), max(k.doubt for k in known)
    if doubt < least / SLACK or 1 - doubt < (1 - most) / SLACK:
        which = "more" if doubt < least else "less"
        why = (
            f"the float model is {which} certain of the fixed images ({1 - doubt:.3f}) than any"
            f" network of the calibration ({1 - most:.3f} to {1 - least:.3f})"
        )
        return replace(found, reason=why)
    worst = max(k.noise for k in known)
    value, low, high = shipped_agreement_regression().predict(min(noise, worst), doubt, classes)
    if noise >= worst * (1 - DIGITS):
        note = "as far from the float model as the worst student of the calibration, or further"
        return replace(found, value=value, low=0.0, high=high, reason=note)
    return replace(found, value=value, low=low, high=high)


def explain_refusal(teacher: Outputs, student: Outputs) -> str:
    """Return why there can be no estimate from these outputs; empty where there can."""
    return explain_class_count(teacher.shape[1]) or explain_outputs(teacher, student)


def explain_outputs(teacher: Outputs, *others: Outputs) -> str:
    """Return why nothing can be told from outputs (N, K), whatever K is; empty where it can.

    `teacher` are the float model's on the fixed images.
    """
    if not all(np.isfinite(part).all() for part in (teacher, *others)):
        return "an output is not finite"
    if len(np.unique(teacher.argmax(1))) < 2:
        return "the float model predicts one and the same class for every fixed image"
    return ""


def explain_class_count(classes: int) -> str:
    """Return why the agreement of so many classes cannot be estimated; empty where it can."""
    if FEWEST_CLASSES <= classes <= MOST_CLASSES:
        return ""
    return (
        f"{classes} classes; the calibration has networks of 2 to 1,000, and the estimate"
        f" reaches to {MOST_CLASSES:,}"
    )
