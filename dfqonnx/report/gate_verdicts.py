"""The user's rules held against a report: pass, fail, or not decided.

A rule holds when the whole interval of what was measured lies on the good side of its bound, fails
when all of it lies on the other side, and is inconclusive when the interval straddles the bound or
nothing was measured. Intervals, all two-sided:

    drop                 95 %, paired (Bonett and Price), see evaluation/statistics
    estimated_drop       90 %, conformal on networks left out, see evaluation/drop_estimate
    top1, agreement      95 %, Wilson
    speedup              the quartiles of the turns: half of all turns lie between them. More turns
                         do not narrow them, because they show the machine, not the lack of turns
    size, float_nodes    exact
    sqnr, psnr, iou      of all images together, so exact on these; the worst output counts

How many images would decide: the least n at which the interval clears the bound if the shares seen
so far stay. Wilson's interval leaves out b exactly when the score test rejects it, so
    n > z^2 b (1 - b) / (p - b)^2
and for the drop n is searched: its interval narrows as n grows.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from statistics import NormalDist

from dfqonnx.config.gates import GateRule, Operator, Quantity
from dfqonnx.evaluation.statistics import Drop, Interval
from dfqonnx.report.report import Report
from dfqonnx.report.sections import Gate, Measured, overall_verdict
from dfqonnx.report.text import describe_estimate

Z = NormalDist().inv_cdf(0.975)
MANY = 10**9  # images: beyond it, no number of them decides
NO_LABELS = "needs labeled images: give --eval-data"
_HOLDS: Mapping[Operator, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Found:
    """What a rule is held against.

    Attributes:
        figures: estimate and interval; None where nothing was measured.
        words: the figure for a reader, or why there is none.
        needed: how many images would decide for a bound; None where no number does.
    """

    figures: Interval | None
    words: str
    needed: Callable[[float], int | None] = lambda bound: None


def apply_gates(report: Report, rules: tuple[GateRule, ...], *, strict: bool = False) -> Report:
    """Return `report` with the user's rules among its gates.

    Args:
        report: what was measured.
        rules: to judge; none leaves the verdict as it is.
        strict: whether a rule that is not decided ends with exit code 1 as well.
    """
    gates = (*report.gates, *(judge_gate(rule, report) for rule in rules))
    return dataclasses.replace(
        report, gates=gates, verdict=overall_verdict(gates), strict_gates=strict
    )


def judge_gate(rule: GateRule, report: Report) -> Gate:
    """Return the verdict of one rule."""
    found = _FINDERS[rule.quantity](report)
    if found.figures is None:
        return Gate(rule.text, found.words, None, asked=True)
    holds = decide(rule, found.figures.low, found.figures.high)
    words, needed = found.words, None
    if holds is None:
        needed = found.needed(rule.bound)
        words += f"; {_what_would_decide(rule, found.figures, needed)}"
    f = found.figures
    return Gate(rule.text, words, holds, True, Measured(f.value, f.low, f.high, f.n, needed))


def broken(report: Report) -> tuple[Gate, ...]:
    """Return the gates that make the command end with 1."""
    strict = report.strict_gates
    return tuple(g for g in report.gates if g.holds is False or (strict and g.holds is None))


def decide(rule: GateRule, low: float, high: float) -> bool | None:
    """Tell whether all (True), none (False) or a part (None) of low..high keeps to `rule`."""
    ends = {_HOLDS[rule.operator](end, rule.bound) for end in (low, high)}
    return ends.pop() if len(ends) == 1 else None


def images_for_share(value: float, bound: float, n: int) -> int | None:
    """Return how many images move Wilson's interval around `value` clear of `bound`."""
    if value == bound:
        return None
    needed = math.floor(Z**2 * bound * (1 - bound) / (value - bound) ** 2) + 1
    return max(needed, n + 1) if needed <= MANY else None


def images_for_drop(drop: Drop, bound: float) -> int | None:
    """Return how many images move the interval of a drop clear of `bound`, in points."""
    n = drop.points.n
    lost, won, edge = drop.only_teacher / n, drop.only_student / n, bound / 100

    def clear(images: int) -> bool:
        p, q = (lost * images + 1) / (images + 2), (won * images + 1) / (images + 2)
        reach = Z * math.sqrt((p + q - (p - q) ** 2) / (images + 2))
        return abs(p - q - edge) > reach

    below, above = n, 2 * n
    while not clear(above):
        below, above = above, 2 * above
        if above > MANY:
            return None
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if clear(middle) else (middle, above)
    return above


def _what_would_decide(rule: GateRule, figures: Interval, needed: int | None) -> str:
    if rule.quantity == "speedup":
        return "the bound lies between the quartiles: measure on a quieter machine"
    if rule.quantity == "estimated_drop":
        return "the bound lies in the interval: labeled images decide (--eval-data)"
    if needed is None:
        return "the estimate lies on the bound: no number of images decides"
    return f"not decided by n = {figures.n:,}; about {needed:,} images would, if the shares stay"


def _interval(found: Interval, form: str, unit: str, what: str, *, times: float = 1) -> str:
    value, low, high = (
        format(times * number, form) for number in (found.value, found.low, found.high)
    )
    return f"{value}{unit} (95 %: {low} to {high}, {what})"


def _drop(report: Report) -> Found:
    drop = report.drop
    if drop is None:
        return Found(None, NO_LABELS)
    words = _interval(drop.points, ".2f", " points", f"n = {drop.points.n:,}")
    return Found(drop.points, words, lambda bound: images_for_drop(drop, bound))


def _estimated_drop(report: Report) -> Found:
    found = report.estimate
    if found is None:
        return Found(None, "the drop was not estimated")
    if found.value is None or found.low is None or found.high is None:
        return Found(None, f"the drop cannot be estimated: {found.reason}")
    words = f"{describe_estimate(found)}, from {found.basis}"
    return Found(Interval(found.value, found.low, found.high, found.images), words)


def _top1(report: Report) -> Found:
    found = report.student.top1
    if found is None:
        return Found(None, NO_LABELS)
    words = _interval(found, ".2f", " %", f"n = {found.n:,}")
    share, n = found.value / 100, found.n
    return Found(found, words, lambda bound: images_for_share(share, bound / 100, n))


def _agreement(report: Report) -> Found:
    real, synthetic = report.agreement.eval, report.agreement.synthetic
    found = real or synthetic
    if found is None:
        return Found(
            None, "nothing to measure on: the output has no classes, or there are no images"
        )
    what = f"n = {found.n:,} {'evaluation' if real else 'synthetic'} images"
    share, n = found.value, found.n
    words = _interval(found, ".2f", " %", what, times=100)
    return Found(found, words, lambda bound: images_for_share(share, bound, n))


def _sqnr(report: Report) -> Found:
    return _worst(report, "sqnr_db", " dB", "no output has a signal to noise ratio")


def _psnr(report: Report) -> Found:
    return _worst(report, "psnr_db", " dB", "no output is an image")


def _iou(report: Report) -> Found:
    return _worst(report, "iou", "", "no output is a mask of classes")


def _worst(report: Report, key: str, unit: str, nothing: str) -> Found:
    outputs = report.agreement.outputs
    known = [(float(v), o.name) for o in outputs if (v := getattr(o, key)) is not None]
    if not known and key.endswith("_db") and outputs and all(o.exact for o in outputs):
        return Found(_exact(math.inf), "infinite: every output equals the teacher's")
    if not known:
        return Found(None, nothing)
    value, name = min(known)
    return Found(_exact(value), f"{value:.2f}{unit} on output {name}")


def _size(report: Report) -> Found:
    ratio = report.size_ratio
    if ratio is None:
        return Found(None, "the sizes are not known")
    return Found(_exact(ratio), f"{ratio:.4f} of the float file")


def _bytes(report: Report) -> Found:
    size = report.student.bytes
    if size is None:
        return Found(None, "the size is not known")
    return Found(_exact(size), f"{size:,} bytes")


def _speedup(report: Report) -> Found:
    t = report.latency
    if t is None:
        return Found(None, "speed was not measured")
    words = f"{t.speedup:.2f} times (quartiles: {t.low:.2f} to {t.high:.2f}, n = {t.turns:,} turns)"
    return Found(Interval(t.speedup, t.low, t.high, t.turns), words)


def _float_nodes(report: Report) -> Found:
    if report.audit is None:
        return Found(None, "the runtime could not be asked")
    nodes = report.audit.float_nodes
    names = ", ".join(f"{node.name} ({node.op})" for node in nodes[:3])
    more = ", ..." if len(nodes) > 3 else ""
    return Found(_exact(len(nodes)), f"{len(nodes)}: {names}{more}" if nodes else "none")


def _exact(value: float) -> Interval:
    return Interval(float(value), float(value), float(value), 1)


_FINDERS: Mapping[Quantity, Callable[[Report], Found]] = {
    "drop": _drop,
    "estimated_drop": _estimated_drop,
    "top1": _top1,
    "agreement": _agreement,
    "sqnr": _sqnr,
    "psnr": _psnr,
    "iou": _iou,
    "size": _size,
    "bytes": _bytes,
    "speedup": _speedup,
    "float_nodes": _float_nodes,
}
