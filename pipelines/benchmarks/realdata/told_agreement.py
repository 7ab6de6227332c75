"""Agreement on real inputs, told from fixed ones: N inputs, K classes, p probabilities.

    SQNR      = of the outputs on fixed inputs, as in `task.py`, in dB
    certainty = mean over fixed inputs of max p, of the float model

The share of equal classes on fixed inputs misleads from network to network: real inputs stand
farther from the borders between classes than fixed ones, by one to five times. Noise and certainty,
which the estimate of the drop is made of too, say more:

    Phi^-1(agreement) = a + b SQNR / 10 + c Phi^-1(certainty)

is fitted by least squares to the students of all networks but the one that is told of. Shares are
taken as (hits + 1/2) / (n + 1), so that 1 is finite. The interval has the half width that nine of
ten errors have where every other network is left out in turn. Where the float model chooses one
class for all fixed inputs nothing moves over a border there, and nothing can be told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from realdata.task import Array, Figures, Outputs, first
from realdata.told import Told

from dfqonnx.evaluation.statistics import log_probabilities

COVERAGE, RIDGE, FAINTEST = 0.9, 1e-2, 1e-6
FEWEST_NETWORKS = 4
NORMAL = NormalDist()


def class_levels(teacher: Outputs) -> Figures:
    """Return what agreement is told from beside SQNR, of the float model's outputs (N, K)."""
    p = np.exp(log_probabilities(first(teacher)))
    chosen = float(len(np.unique(p.argmax(1))))
    return {"certainty": float(p.max(1).mean()), "chosen": chosen}


def can_be_told(record: Told) -> bool:
    """Return whether the fixed inputs drive the network from class to class."""
    return record.fixed.get("chosen", 0) > 1


@dataclass(frozen=True)
class ToldAgreement:
    """A student with its agreement on real inputs in percent, told and true."""

    record: Told
    value: float
    low: float
    high: float
    true: float


def tell_agreement(records: Sequence[Told]) -> list[ToldAgreement]:
    """Return every student that can be told of, its own network left out of the fit."""
    known = [record for record in records if can_be_told(record)]
    networks = sorted({record.network for record in known})
    if len(networks) < FEWEST_NETWORKS:
        return []
    told = []
    for name in networks:
        rest = [record for record in known if record.network != name]
        half = _half_width(rest)
        for record in (record for record in known if record.network == name):
            middle = float(_row(record) @ _fit(rest))
            value, low, high = (100 * NORMAL.cdf(middle + by) for by in (0.0, -half, half))
            told.append(ToldAgreement(record, value, low, high, record.real["agreement"]))
    return told


def _fit(records: Sequence[Told]) -> Array:
    """Return a, b and c; a little of their squares is kept small as well."""
    rows = np.array([_row(record) for record in records])
    goals = np.array([_scaled(record) for record in records])
    return np.linalg.solve(rows.T @ rows + RIDGE * np.eye(rows.shape[1]), rows.T @ goals)


def _half_width(records: Sequence[Told]) -> float:
    errors: list[float] = []
    for name in {record.network for record in records}:
        fitted = _fit([record for record in records if record.network != name])
        own = [record for record in records if record.network == name]
        errors += [abs(_scaled(record) - float(_row(record) @ fitted)) for record in own]
    place = min(len(errors), math.ceil(COVERAGE * (len(errors) + 1)))
    return sorted(errors)[place - 1]


def _row(record: Told) -> Array:
    certainty = min(record.fixed["certainty"], 1 - FAINTEST)
    return np.array([1.0, record.fixed["SQNR"] / 10, NORMAL.inv_cdf(certainty)])


def _scaled(record: Told) -> float:
    hits = record.real["agreement"] / 100 * record.tested
    return NORMAL.inv_cdf((hits + 0.5) / (record.tested + 1))
