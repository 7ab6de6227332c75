"""What a sweep found: one row a task, its fronts, and its JSON.

A task of a model is judged by the first of these that is known of most of its tasks: the drop, a
measure of the task, the estimated drop, the agreement, the SQNR. It lies on a *front* (Pareto's)
where no other task of the same model is at least as good in both of two columns, and better in one:

    quality against bytes, quality against speed
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.measure_lines import main_measure
from dfqonnx.report.report import Report

SCHEMA = "dfqonnx.sweep/1"
Status = Literal["complete", "gate failed", "unsupported", "failed", "lost", "cancelled"]
FINISHED: frozenset[Status] = frozenset(("complete", "gate failed"))  # files are there
Cost = Literal["bytes", "speedup"]


@dataclass(frozen=True, kw_only=True)
class QualityFigure:
    """How good a student is by one measure; an end is None where nothing bounds it."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    higher_is_better: bool = False

    @property
    def loss(self) -> float:
        """The value, turned so that less is better."""
        return -self.value if self.higher_is_better else self.value

    def __str__(self) -> str:
        """Return the number with its interval."""
        ends = (
            "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g})"
        )
        return f"{self.value:.4g}{self.unit}{ends}"


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One task of a sweep: what it was, how it ended, and what was measured.

    Attributes:
        task: its name, that of its folder.
        model, model_location: the short name; where the float file is.
        key: a hash of all that decides the result; a task with the same key is not run again.
        status: `complete` and `gate failed` left files, the others did not.
        reason: why it is not complete, in a sentence or two.
        exit_code: what `dfqonnx run` would have ended with; None where it did not run to an end.
        attempts: how often it was begun; more than once where a worker was lost.
        where: the machine and process of the last attempt.
        folder: where its files are.
        qualities: every measure of quality that is known.
        figures: the numbers of `Report.figures`, and times.
    """

    task: str
    model: str
    model_location: str
    bits: str
    target: str
    recipe: str
    seed: int
    key: str = ""
    status: Status
    reason: str = ""
    exit_code: int | None = None
    attempts: int = 1
    where: str = ""
    folder: str = ""
    verdict: str = ""
    model_sha256: str = ""
    student_sha256: str = ""
    qualities: tuple[QualityFigure, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    version: str = ""

    @property
    def axes(self) -> tuple[str, str, str, str, int]:
        """What tells this task from others, in another sweep as well."""
        return self.model, self.bits, self.target, self.recipe, self.seed

    @property
    def label(self) -> str:
        """What tells it from other tasks of its model, in words."""
        return f"{self.bits}, {self.target}, {self.recipe}, seed {self.seed}"

    def quality(self, name: str) -> QualityFigure | None:
        """Return the measure called `name`; None where it is not known."""
        return next((each for each in self.qualities if each.name == name), None)

    @property
    def main_quality(self) -> QualityFigure | None:
        """The first measure that is known: the one that says most."""
        return self.qualities[0] if self.qualities else None


def list_qualities(report: Report) -> tuple[QualityFigure, ...]:
    """Return the measures of quality in a report, those that say most first."""
    return tuple(each for each in _find_qualities(report) if math.isfinite(each.value))


def _find_qualities(report: Report) -> Iterator[QualityFigure]:
    if report.drop is not None:
        yield _bounded("drop", report.drop.points, " points")
    main = main_measure(report.measures)
    if main is not None and main.student is not None:
        if main.drop is None:
            yield _bounded(
                main.name, main.interval or main.student, main.unit, main.higher_is_better
            )
        else:
            yield _bounded(f"{main.name}.drop", main.drop_interval or main.drop, main.unit)
    told = report.estimated_drop
    if told is not None and told.value is not None:
        yield QualityFigure(
            name="estimated_drop", value=told.value, low=told.low, high=told.high, unit=" points"
        )
    share = report.agreement.best_known
    if share is not None:
        ends = Interval(100 * share.value, 100 * share.low, 100 * share.high, share.n)
        yield _bounded("agreement", ends, " %", True)
    if report.agreement.sqnr_db is not None:
        yield _bounded("sqnr", report.agreement.sqnr_db, " dB", True)


def _bounded(
    name: str, found: Interval | float, unit: str, higher_is_better: bool = False
) -> QualityFigure:
    if not isinstance(found, Interval):
        return QualityFigure(name=name, value=found, unit=unit, higher_is_better=higher_is_better)
    return QualityFigure(
        name=name, value=found.value, low=found.low, high=found.high, unit=unit,
        higher_is_better=higher_is_better,
    )  # fmt: skip


def list_figures(report: Report) -> dict[str, float]:
    """Return the numbers of a report that a table of a sweep has."""
    latency, top1 = report.latency, report.student.top1
    more = {
        "float-bytes": report.teacher.bytes,
        "float-top-1": None if report.teacher.top1 is None else report.teacher.top1.value,
        "top-1-low": None if top1 is None else top1.low,
        "top-1-high": None if top1 is None else top1.high,
        "float-ms": None if latency is None else latency.teacher_ms,
        "student-ms": None if latency is None else latency.student_ms,
        "speedup-low": None if latency is None else latency.low,
        "speedup-high": None if latency is None else latency.high,
        "seconds": report.seconds.get("total"),
        "peak-memory-mib": report.peak_memory_mib,
    }
    known = {**report.figures(), **{k: float(v) for k, v in more.items() if v is not None}}
    return {name: value for name, value in known.items() if math.isfinite(value)}


@dataclass(frozen=True, kw_only=True, repr=False)
class SweepResult:
    """All tasks of a sweep in the order of its file, and what was compared with earlier ones."""

    name: str
    rows: tuple[SweepRow, ...]
    engine: str
    created: str
    seconds: float
    version: str
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return name and counts in a line."""
        return f"<SweepResult {self.name!r}: {self.describe_counts()}>"

    @property
    def models(self) -> tuple[str, ...]:
        """The short names of the models, in order."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    def finished(self, model: str) -> tuple[SweepRow, ...]:
        """Return the tasks of a model that left files."""
        return tuple(r for r in self.rows if r.model == model and r.status in FINISHED)

    def quality_of(self, model: str) -> str | None:
        """Return the name of the measure that a model's tasks are compared by."""
        return choose_quality(self.finished(model))

    def front(self, model: str, cost: Cost) -> frozenset[str]:
        """Return the names of a model's tasks that lie on the front of quality against `cost`."""
        name = self.quality_of(model)
        points = {}
        for row in self.finished(model):
            found = None if name is None else row.quality(name)
            if found is not None and cost in row.figures:
                value = row.figures[cost]
                points[row.task] = (found.loss, value if cost == "bytes" else -value)
        return find_front(points)

    @property
    def exit_code(self) -> int:
        """1 where some task is not complete."""
        return 1 if any(row.status != "complete" for row in self.rows) else 0

    def describe_counts(self) -> str:
        """Return `10 complete, 1 gate failed, 1 unsupported`."""
        counts = Counter(row.status for row in self.rows)
        return ", ".join(f"{count} {status}" for status, count in counts.items())

    def to_json(self) -> str:
        """Return the text of `sweep.json`."""
        fronts = [
            {
                "model": model,
                "quality": self.quality_of(model),
                "bytes": sorted(self.front(model, "bytes")),
                "speedup": sorted(self.front(model, "speedup")),
            }
            for model in self.models
        ]
        content = {"schema": SCHEMA, **asdict(self), "fronts": fronts}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def choose_quality(rows: Sequence[SweepRow]) -> str | None:
    """Return the measure that most rows have, of equals the one that says most."""
    counts: Counter[str] = Counter()
    rank: dict[str, int] = {}
    for row in rows:
        for place, each in enumerate(row.qualities):
            counts[each.name] += 1
            rank[each.name] = min(place, rank.get(each.name, place))
    return min(counts, key=lambda name: (-counts[name], rank[name]), default=None)


def find_front(points: Mapping[str, tuple[float, float]]) -> frozenset[str]:
    """Return the names of the points that no other one dominates; less is better in both.

    >>> sorted(find_front({"a": (0, 3), "b": (1, 2), "c": (1, 3), "d": (2, 2)}))
    ['a', 'b']
    """
    front: set[str] = set()
    least, at = math.inf, math.inf
    for name, (first, second) in sorted(points.items(), key=lambda item: item[1]):
        if second < least or (second == least and first == at):
            least, at = second, first
            front.add(name)
    return frozenset(front)


def row_values(row: SweepRow) -> dict[str, Any]:
    """Return a row as a flat mapping of columns, for tables; unknown values are None."""
    main = row.main_quality
    values: dict[str, Any] = {
        name: getattr(row, name)
        for name in (
            "task", "model", "bits", "target", "recipe", "seed", "status", "reason", "exit_code",
            "verdict", "attempts", "where", "folder", "model_location", "model_sha256",
            "student_sha256", "key", "version",
        )
    }  # fmt: skip
    for part in ("name", "value", "low", "high", "unit", "higher_is_better"):
        values[f"quality_{part}" if part != "higher_is_better" else part] = (
            None if main is None else getattr(main, part)
        )
    for figure in FIGURES:
        values[figure.replace("-", "_")] = row.figures.get(figure)
    values["qualities"] = json.dumps([asdict(each) for each in row.qualities])
    return values


FIGURES = (
    "top-1", "top-1-low", "top-1-high", "float-top-1", "drop", "agreement", "agreement-images",
    "kl", "bytes", "float-bytes", "size", "speedup", "speedup-low", "speedup-high", "student-ms",
    "float-ms", "integer-nodes", "float-nodes", "seconds", "peak-memory-mib",
)  # fmt: skip


def worst_first(rows: Iterable[SweepRow]) -> list[SweepRow]:
    """Return the rows that are not complete, in order."""
    return [row for row in rows if row.status != "complete"]
