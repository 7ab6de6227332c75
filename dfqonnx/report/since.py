"""A sweep against an earlier one: what got worse by more than chance.

Two numbers a and b with 95 % intervals (l, u) differ by b - a, whose interval is that of MOVER, the
method of variance estimates recovery (Zou and Donner 2008; Newcombe 1998 for shares):

    low  = b - a - sqrt((b - l_b)^2 + (u_a - a)^2)
    high = b - a + sqrt((u_b - b)^2 + (a - l_a)^2)

It holds for independent numbers; of students on the same images it is too wide rather than too
narrow. A loss (a drop, a negative agreement) got worse where `low` is above 0. A number without an
interval is exact: then any growth counts beyond a rounding of its last digits. Sizes are exact, but
hold texts such as a version: they count from 1 % on. Speeds are ratios of times taken in turns,
with quartiles for an interval; they count from 5 % on, as two machines are never quite the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfqonnx.report.sweep_result import FINISHED, QualityFigure, SweepRow

ROUNDING = 1e-6  # of a number, in which two exact ones may differ
SIZE_SHARE, SPEED_SHARE = 0.01, 0.05


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of one task: `is_worse` fails a build, other changes are told."""

    task: str
    what: str
    before: str
    now: str
    is_worse: bool

    def __str__(self) -> str:
        """Return one line."""
        word = "worse" if self.is_worse else "changed"
        return f"{self.task}: {self.what} {word}: {self.before} before, {self.now} now"


def compare_sweeps(earlier: Sequence[SweepRow], rows: Sequence[SweepRow]) -> tuple[Change, ...]:
    """Return what changed in the tasks that both sweeps have, and which tasks only one has."""
    known = {row.axes: row for row in earlier}
    found: list[Change] = []
    for row in rows:
        before = known.pop(row.axes, None)
        if before is None:
            found.append(_told(row, "the task", "not there", row.status))
        else:
            found += _compare(before, row)
    found += [_told(row, "the task", row.status, "not there") for row in known.values()]
    return tuple(found)


def mover_low(before: tuple[float, float | None], now: tuple[float, float | None]) -> float:
    """Return the lower end of the difference of two losses, by the ends towards each other.

    `before` is (a, u_a), `now` is (b, l_b); an end that is None is the number itself.

    >>> mover_low((1.0, 1.3), (2.0, 1.6))
    0.5
    """
    (a, upper), (b, lower) = before, now
    reach = math.hypot(0.0 if lower is None else b - lower, 0.0 if upper is None else upper - a)
    return b - a - reach


def _compare(before: SweepRow, now: SweepRow) -> Iterator[Change]:
    if before.status != now.status:
        order = ("complete", "gate failed")
        is_worse = before.status in order and (
            now.status not in order or order.index(now.status) > order.index(before.status)
        )
        yield Change(
            task=now.task, what="the outcome", before=before.status, now=_outcome(now),
            is_worse=is_worse,
        )  # fmt: skip
    if before.status not in FINISHED or now.status not in FINISHED:
        return
    if before.model_sha256 != now.model_sha256:
        yield _told(now, "the float file", before.model_sha256[:12], now.model_sha256[:12])
    yield from _compare_quality(before, now)
    yield from _compare_costs(before, now)


def _compare_quality(before: SweepRow, now: SweepRow) -> Iterator[Change]:
    old = next((each for each in before.qualities if now.quality(each.name) is not None), None)
    if old is None:
        if before.qualities or now.qualities:
            yield _told(now, "the measure", str(before.main_quality), str(now.main_quality))
        return
    new = now.quality(old.name)
    assert new is not None
    least = mover_low((old.loss, _worst_end(old)), (new.loss, _best_end(new)))
    if least > ROUNDING * max(1.0, abs(old.loss)):
        yield Change(task=now.task, what=old.name, before=str(old), now=str(new), is_worse=True)


def _compare_costs(before: SweepRow, now: SweepRow) -> Iterator[Change]:
    old, new = before.figures, now.figures
    if "bytes" in old and "bytes" in new and new["bytes"] > (1 + SIZE_SHARE) * old["bytes"]:
        yield _worse(now, "the size", f"{old['bytes']:,.0f} bytes", f"{new['bytes']:,.0f} bytes")
    if "float-nodes" in old and "float-nodes" in new and new["float-nodes"] > old["float-nodes"]:
        nodes = (f"{each['float-nodes']:.0f}" for each in (old, new))
        yield _worse(now, "the number of float nodes", *nodes)
    if "speedup" in old and "speedup" in new:
        least = mover_low(
            (-old["speedup"], -old.get("speedup-low", old["speedup"])),
            (-new["speedup"], -new.get("speedup-high", new["speedup"])),
        )
        if least > 0 and new["speedup"] < (1 - SPEED_SHARE) * old["speedup"]:
            yield _worse(now, "the speedup", f"{old['speedup']:.2f}x", f"{new['speedup']:.2f}x")


def _worst_end(found: QualityFigure) -> float | None:
    end = found.low if found.higher_is_better else found.high
    return -end if end is not None and found.higher_is_better else end


def _best_end(found: QualityFigure) -> float | None:
    end = found.high if found.higher_is_better else found.low
    return -end if end is not None and found.higher_is_better else end


def _outcome(row: SweepRow) -> str:
    return f"{row.status} ({row.reason})" if row.reason else row.status


def _worse(row: SweepRow, what: str, before: str, now: str) -> Change:
    return Change(task=row.task, what=what, before=before, now=now, is_worse=True)


def _told(row: SweepRow, what: str, before: str, now: str) -> Change:
    return Change(task=row.task, what=what, before=before, now=now, is_worse=False)
