"""Agreement on real inputs, told from fixed ones, and how far to believe the form that tells it.

The product tells agreement by `dfqonnx/evaluation/agreement_estimate`; its table of known students
is made here from the records. Its form is one of `FORMS`, chosen while looking at these students.
What such a choice is worth for a network that had no part in it is told by choosing anew in every
fold (`tell_nested`): for each network that is left out, the form is the one with the least error on
networks left out of the others, and its coefficients are fitted to the others.

    ratio       noise over signal of the outputs on the fixed images: `drop_estimate/noise_ratio`
    SQNR        of the outputs as they are, on the fixed inputs
    share       of the fixed images with another class
    doubt       1 - the float model's mean largest probability there
    certainty   1 - its mean entropy there, over that of no choice

A form multiplies some of these, to powers that are fitted or stand fixed, and a factor, which is
fitted always; what comes of it saturates as in `drop_estimate/saturating_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from realdata.task import Array, Figures
from realdata.told import Told

from dfqonnx.core.input_format import InputFormat
from dfqonnx.evaluation.agreement_estimate.agreement_regression import (
    HeldOutAgreement,
    predict_agreements,
)
from dfqonnx.evaluation.agreement_estimate.estimate_agreement import explain_refusal, mean_doubt
from dfqonnx.evaluation.agreement_estimate.known_agreements import KnownAgreement
from dfqonnx.evaluation.drop_estimate.fixed_images import make_fixed_images
from dfqonnx.evaluation.drop_estimate.noise_ratio import certainty, fixed_images_ratio
from dfqonnx.evaluation.drop_estimate.saturating_loss import (
    LEAST,
    fit_least_squares,
    from_scale,
    leave_out_networks,
    predict_scaled,
    to_scale,
)
from dfqonnx.runtime.session import Session


@dataclass(frozen=True)
class Form:
    """Which logarithms make the rows of a regression, and which powers are not fitted."""

    free: tuple[str, ...] = ()
    fixed: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        """Return what agreement is told from, the powers that are not fitted in brackets."""
        powers = [f"{name} (to the power of {power:g})" for name, power in self.fixed]
        return " and ".join((*self.free, *powers))


FORMS = (
    *(Form((noise, *more)) for noise in ("ratio", "SQNR", "share")
      for more in ((), ("doubt",), ("certainty",))),
    *(Form(fixed=((noise, power), *more)) for noise, power in (("ratio", 0.5), ("share", 1.0))
      for more in ((), (("doubt", 1.0),))),
)  # fmt: skip
FEWEST_NETWORKS = 4
BATCH = 64
LEAST_SHARE = 1e-3


def class_levels(teacher: Path, student: Path, inputs: InputFormat) -> Figures:
    """Return what agreement may be told from beside SQNR, on the product's fixed images."""
    pixels = np.concatenate(list(make_fixed_images(inputs.image_size).values()))
    t, s = (_first_output(path, inputs.to_tensor(pixels)) for path in (teacher, student))
    if explain_refusal(t, s):
        return {"classes": float(t.shape[1])}
    return {
        "ratio": fixed_images_ratio(t, s),
        "doubt": mean_doubt(t),
        "certainty": certainty(t),
        "share": float((t.argmax(1) != s.argmax(1)).mean()),
        "classes": float(t.shape[1]),
    }


def _first_output(path: Path, x: Array) -> Array:
    """Return the first output (N, K) of a file for inputs (N, ...)."""
    session = Session(path)
    name, output = session.inputs[0].name, session.outputs[0].name
    batches = (x[k : k + BATCH] for k in range(0, len(x), BATCH))
    return np.concatenate([session.run_batched({name: batch})[output] for batch in batches])


def can_be_told(record: Told) -> bool:
    """Return whether the product tells the agreement of students of such a network."""
    return "ratio" in record.fixed


def to_known(records: Sequence[Told]) -> list[KnownAgreement]:
    """Return the product's table."""
    return [
        KnownAgreement(
            network=record.network,
            student=record.student,
            classes=int(record.fixed["classes"]),
            images=record.tested,
            agreement=record.real["agreement"] / 100,
            noise=record.fixed["ratio"],
            doubt=record.fixed["doubt"],
        )
        for record in records
        if record.kind == "classes" and can_be_told(record)
    ]


def tell_agreement(records: Sequence[Told]) -> tuple[HeldOutAgreement, ...]:
    """Return every student that can be told of, by the product, its own network left out."""
    known = to_known(records)
    networks = {each.network for each in known}
    return predict_agreements(known) if len(networks) >= FEWEST_NETWORKS else ()


@dataclass(frozen=True)
class Nested:
    """A student of a network that helped to choose neither form nor coefficients; 0..1."""

    record: Told
    form: Form
    value: float


def tell_nested(records: Sequence[Told]) -> list[Nested]:
    """Return every student that can be told of, the form chosen anew without its network."""
    found = []
    for rest, own in leave_out_networks([r for r in records if can_be_told(r)]):
        form = min(FORMS, key=lambda form: form_error(rest, form))
        told = _tell(_fit(rest, form), own, form)
        found += [
            Nested(record, form, 1 - max(0.0, from_scale(float(y))) / 100)
            for record, y in zip(own, told, strict=True)
        ]
    return found


def form_error(records: Sequence[Told], form: Form) -> float:
    """Return the mean square error of a form, a mean over networks left out in turn."""
    errors = [
        float(np.square(_tell(_fit(rest, form), own, form) - _goals(own)).mean())
        for rest, own in leave_out_networks(records)
    ]
    return float(np.mean(errors))


def _fit(records: Sequence[Told], form: Form) -> Array:
    start = (4.0, *([0.5] * len(form.free)))
    return fit_least_squares(
        _rows(records, form),
        _goals(records),
        most=_most(records),
        start=start,
        offset=_offset(records, form),
    )


def _tell(coefficients: Array, records: Sequence[Told], form: Form) -> Array:
    return predict_scaled(
        coefficients, _rows(records, form), _most(records), _offset(records, form)
    )


def _rows(records: Sequence[Told], form: Form) -> Array:
    return np.array([(1.0, *(_logarithm(r.fixed, name) for name in form.free)) for r in records])


def _offset(records: Sequence[Told], form: Form) -> Array:
    return np.array(
        [sum(power * _logarithm(r.fixed, name) for name, power in form.fixed) for r in records]
    )


def _logarithm(fixed: Figures, name: str) -> float:
    if name == "SQNR":
        return -fixed["SQNR"] / 10 * math.log(10)
    return math.log(max(fixed[name], LEAST_SHARE if name == "share" else LEAST))


def _goals(records: Sequence[Told]) -> Array:
    misses = ((r.tested * (1 - r.real["agreement"] / 100), r.tested) for r in records)
    return to_scale([100 * (missed + 0.5) / (count + 1) for missed, count in misses])


def _most(records: Sequence[Told]) -> Array:
    return np.array([100 * (1 - 1 / record.fixed["classes"]) for record in records])
