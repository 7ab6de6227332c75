"""The students that the estimate of agreement was calibrated on, with their true agreement.

`known_agreements.csv` holds numbers only; `pipelines/benchmarks/beforehand.py` writes it from its
records. The true agreement is the share of real inputs to which student and float model give the
same class; no label is needed for it. Real inputs set the coefficients of the regression and
nothing else: no recipe, schedule or default was chosen by them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import get_type_hints

TABLE = Path(__file__).with_name("known_agreements.csv")


@dataclass(frozen=True, kw_only=True)
class KnownAgreement:
    """One student whose agreement on real inputs is known."""

    network: str  # every export of one set of weights is one network
    student: str  # how the student was made
    classes: int
    images: int  # real ones that the agreement was measured on
    agreement: float  # the share of them with the float model's class
    noise: float  # the noise ratio on the fixed images, see `drop_estimate/noise_ratio`
    doubt: float  # 1 - the float model's mean largest probability on the fixed images


@cache
def read_known_agreements() -> tuple[KnownAgreement, ...]:
    """Return all students of the shipped table."""
    kinds = get_type_hints(KnownAgreement).items()
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return tuple(
            KnownAgreement(**{name: kind(row[name]) for name, kind in kinds}) for row in rows
        )


def format_known_agreements(students: Iterable[KnownAgreement]) -> str:
    """Return the text of a table, figures to six digits."""
    names = [field.name for field in fields(KnownAgreement)]
    lines = [",".join(names)]
    for student in students:
        values = (getattr(student, name) for name in names)
        cells = (f"{v:.6g}" if isinstance(v, float) else f'"{v}"' if isinstance(v, str) else str(v)
                 for v in values)  # fmt: skip
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"
