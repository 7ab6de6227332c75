"""The students that the instrument was calibrated on: their figures and their true drop.

`students.csv` holds numbers only, no image and no label; `tests/bench/estimate_students.py` makes
it again. The true drop is the teacher's top-1 minus the student's on labeled test images that
nothing was trained on. These labels set this instrument's coefficients and nothing else: no recipe,
schedule or default was chosen by them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("students.csv")


@dataclass(frozen=True)
class KnownStudent:
    """One student whose true drop is known.

    Attributes:
        network: whose student; every export of one set of weights is one network.
        student: how it was made.
        classes: of the network.
        drop: true, in points.
        images: labeled images that it was measured on.
        certainty: its teacher's on painted images, see `noise`.
        painted: noise over signal on painted images.
        real: the same on 64 real images, which are not among the labeled ones.
    """

    network: str
    student: str
    classes: int
    drop: float
    images: int
    certainty: float
    painted: float
    real: float


@cache
def read_known_students() -> tuple[KnownStudent, ...]:
    """Return all of them."""
    return read_students(TABLE)


def read_students(path: Path) -> tuple[KnownStudent, ...]:
    """Return the students of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            KnownStudent(
                row["network"],
                row["student"],
                int(row["classes"]),
                float(row["drop"]),
                int(row["images"]),
                float(row["certainty"]),
                float(row["painted"]),
                float(row["real"]),
            )
            for row in csv.DictReader(file)
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
