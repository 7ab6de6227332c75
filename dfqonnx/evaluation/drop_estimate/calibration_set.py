"""The students that the estimate was calibrated on: their figures and their true drop.

`students.csv` holds numbers only, no image and no label; `tests/bench/estimate_students.py` makes
it again. The true drop is the teacher's top-1 minus the student's on labeled test images that
nothing was trained on. These labels set the coefficients of the regression and nothing else: no
recipe, schedule or default was chosen by them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import get_type_hints

TABLE = Path(__file__).with_name("students.csv")


@dataclass(frozen=True, kw_only=True)
class KnownStudent:
    """One student whose true drop is known."""

    network: str  # every export of one set of weights is one network
    student: str  # how the student was made
    classes: int
    drop: float  # in points
    images: int  # labeled ones that the drop was measured on
    certainty: float  # the teacher's on the fixed images, see `noise_ratio`
    fixed: float  # the noise ratio on the fixed images
    real: float  # the noise ratio on 64 real images, which are not among the labeled ones


@cache
def read_known_students() -> tuple[KnownStudent, ...]:
    """Return all students of the shipped table."""
    return read_students(TABLE)


def read_students(path: Path) -> tuple[KnownStudent, ...]:
    """Return the students of a table, whose columns are the fields of `KnownStudent`."""
    kinds = get_type_hints(KnownStudent).items()
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return tuple(
            KnownStudent(**{name: kind(row[name]) for name, kind in kinds}) for row in rows
        )


def write_students(students: Iterable[KnownStudent], path: Path) -> None:
    """Write a table, figures to six digits."""
    names = [field.name for field in fields(KnownStudent)]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(names)
        for student in students:
            values = (getattr(student, name) for name in names)
            table.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in values)
