"""What a quantized file loses in top-1, told without a label.

    painted probes -> both files -> noise over signal -> law -> points, 90 % interval

Real images, where the user has a few, take the place of the painted ones; the teacher's certainty
is read from painted ones in either case. The instrument says so where it cannot tell: the output
holds no classes, or too few; the network is surer or less sure than any that it was calibrated on;
what it reads is no image. A student beyond the worst of the known ones gets an interval that is
open upwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.core.input_format import InputFormat
from dfqonnx.evaluation.drop_estimate.calibration_set import read_known_students
from dfqonnx.evaluation.drop_estimate.fixed_images import make_fixed_images
from dfqonnx.evaluation.drop_estimate.noise_ratio import certainty, painted_ratio, real_ratio
from dfqonnx.evaluation.drop_estimate.regression import (
    Basis,
    Record,
    figures,
    record,
    shipped,
    shipped_trials,
)
from dfqonnx.evaluation.outputs import kind_of
from dfqonnx.runtime.session import Provider, Session

Pixels = NDArray[np.uint8]
Outputs = NDArray[Any]
FEWEST_REAL, MOST_REAL = 32, 256
FEWEST_CLASSES, MOST_CLASSES = 5, 2000
SLACK = 0.1  # of certainty beyond that of the known networks
_CHUNK = 64


@dataclass(frozen=True)
class Estimate:
    """The drop in top-1 as far as it can be told without labels, in points.

    Attributes:
        value: estimate; None where it cannot be told.
        low: of the 90 % interval.
        high: of it.
        basis: what it was read from, in words.
        reason: why there is none, or what to know about it; empty otherwise.
        images: how many it was read from.
        noise: power of the student's error over that of the teacher's answers.
        certainty: of the teacher on painted images, 0..1.
        record: how well the instrument does on networks that it was not calibrated on.
    """

    value: float | None
    low: float | None
    high: float | None
    basis: str
    reason: str = ""
    images: int = 0
    noise: float | None = None
    certainty: float | None = None
    record: Record | None = None


def estimate_drop(
    teacher: Path,
    student: Path,
    *,
    inputs: InputFormat,
    real: Pixels | None = None,
    provider: Provider = "cpu",
) -> Estimate:
    """Return what `student` loses against `teacher`.

    Args:
        teacher: float file.
        student: quantized file.
        inputs: how pixels become tensors.
        real: unlabeled real images (N, H, W, C); None where there are none.
        provider: where both run.
    """
    if not inputs.is_image:
        return Estimate(None, None, None, "nothing", "the model reads no image")
    pair = Session(teacher, provider=provider), Session(student, provider=provider)
    name = _scores(pair[0], inputs)
    if name is None:
        return Estimate(None, None, None, "nothing", "no output holds classes")
    pixels = np.concatenate(list(make_fixed_images(inputs.image_size).values()))
    painted = [_run(session, name, pixels, inputs) for session in pair]
    few = real is not None and len(real) < FEWEST_REAL
    if real is None or few:
        note = f"fewer than {FEWEST_REAL} real images tell no more than painted ones" if few else ""
        return estimate_from_outputs("painted", painted[0], painted, note=note)
    spread = np.linspace(0, len(real) - 1, min(len(real), MOST_REAL)).astype(int)
    return estimate_from_outputs(
        "real", painted[0], [_run(s, name, real[spread], inputs) for s in pair]
    )


def estimate_from_outputs(
    basis: Basis, painted: Outputs, answers: list[Outputs], *, note: str = ""
) -> Estimate:
    """Return the estimate from outputs (N, K).

    Args:
        basis: what `answers` are to.
        painted: the teacher's answers to painted images.
        answers: the teacher's and the student's.
        note: to add.
    """
    nothing = Estimate(None, None, None, f"{len(answers[0])} {basis} images")
    unable = _unable(painted, answers)
    if unable:
        return replace(nothing, reason=unable, images=len(answers[0]))
    ratio = (painted_ratio if basis == "painted" else real_ratio)(*answers)
    sure = certainty(painted)
    found = replace(
        nothing,
        reason=note,
        images=len(answers[0]),
        noise=ratio,
        certainty=sure,
        record=record(shipped_trials(basis)),
    )
    known = [figures(k, basis) for k in read_known_students()]
    least, most = min(c for _, c in known), max(c for _, c in known)
    if not least - SLACK <= sure <= most + SLACK:
        which = "less" if sure < least else "more"
        why = (
            f"the float model is {which} certain of painted images ({sure:.2f}) than any network"
            f" that the instrument was calibrated on ({least:.2f} to {most:.2f})"
        )
        return replace(found, reason=why)
    worst = max(r for r, _ in known)
    value, low, high = shipped(basis).predict(min(ratio, worst), sure)
    if ratio > worst:
        high, note = 100.0, "further from the float model than any student of the calibration"
    return replace(found, value=value, low=low, high=high, reason=note)


def _unable(painted: Outputs, answers: list[Outputs]) -> str:
    classes = painted.shape[1]
    if not FEWEST_CLASSES <= classes <= MOST_CLASSES:
        return (
            f"{classes} classes; the instrument was calibrated on networks of 10 to 1,000, and"
            f" reaches from {FEWEST_CLASSES} to {MOST_CLASSES:,}"
        )
    if not all(np.isfinite(part).all() for part in (painted, *answers)):
        return "an output is not finite"
    if len(np.unique(painted.argmax(1))) < 2:
        return "the float model sees one and the same class in every painted image"
    return ""


def _scores(session: Session, inputs: InputFormat) -> str | None:
    """Return the first output that holds classes."""
    x = inputs.to_tensor(np.zeros((1, *inputs.image_size), np.uint8))
    found = session.run_batched({session.inputs[0].name: x})
    return next((name for name, value in found.items() if kind_of(value) == "classes"), None)


def _run(session: Session, output: str, pixels: Pixels, inputs: InputFormat) -> Outputs:
    name = session.inputs[0].name
    parts = [
        session.run_batched({name: inputs.to_tensor(pixels[k : k + _CHUNK])}, outputs=[output])[
            output
        ]
        for k in range(0, len(pixels), _CHUNK)
    ]
    return np.concatenate(parts)
