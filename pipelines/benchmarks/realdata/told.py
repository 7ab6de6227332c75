"""The record of `beforehand.py`: what was told of one student, and what real inputs show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from realdata.task import Figures
from tables.records import read_lines, replace_text


@dataclass(frozen=True, kw_only=True)
class Told:
    """One student."""

    network: str
    student: str
    kind: str
    tested: int  # real inputs
    fixed: Figures  # against the float model on the fixed synthetic inputs
    real: Figures  # the same on real inputs
    lost: Figures = field(default_factory=dict)  # of the task's own figures, by labels
    seconds: float = 0.0  # of computing
    estimate: float | None = None  # of the drop, in points
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is the only record of."""
        return self.network, self.student


def read(path: Path) -> list[Told]:
    """Read records, one JSON line each; a file that is not there has none.

    Raises:
        SystemExit: a line is no record.
    """
    return read_lines(path, lambda line: Told(**line), "a student")


def write(path: Path, records: Iterable[Told]) -> None:
    """Write records, one JSON line each; of two of one student the last stays."""
    latest = {record.key: record for record in records}
    kept = sorted(latest.values(), key=lambda record: (record.kind, record.key))
    replace_text(path, "".join(json.dumps(asdict(record)) + "\n" for record in kept))
