"""Decides the user's gates: each one passes, fails or stays inconclusive.

A gate holds when the whole interval of the measured quantity meets its bound, fails when no part of
it does, and is inconclusive when the interval straddles the bound, when nothing was measured, or
when an evidence warning says that the number cannot be trusted. All intervals are two-sided:

    drop                 95 %, paired (Bonett and Price), see evaluation/statistics
    estimated_drop       90 %, conformal on networks left out, see evaluation/drop_estimate
    estimated_agreement  the same, see evaluation/agreement_estimate
    top1, agreement      95 %, Wilson
    speedup              the quartiles of the turns: half of all turns lie between them. More turns
                         do not narrow them, because they show the machine, not the lack of turns
    size, float_nodes    exact
    sqnr                 95 %, bootstrap over inputs, see evaluation/bootstrap; the worst output
    a task's measure     95 %, bootstrap (shares of inputs: Wilson), drops paired; on labeled
                         inputs, else other real ones, else synthetic ones
    what --metric gives  exact on the inputs, because a function returns totals only

A rule about size or speed takes the place of the check of it. With `--strict` a result is judged in
every respect: checks that otherwise only warn are required, and a rule about accuracy is added
where the user set none, about the best evidence there is:

    drop<=1              points, with labels
    estimated_drop<=2    points, where it can be estimated
    TASK_RULES           boxes, masks, texts, pictures: the first whose measure is known
    agreement>=0.97      other classifiers
    sqnr>=20             decibels over the output's variance, everything else

The number of images that would decide a gate is the least n at which the interval clears the bound
if the shares stay as measured. Wilson's interval excludes b exactly when the score test rejects it:
    n > z^2 b (1 - b) / (p - b)^2
For the drop, n is searched, because its interval narrows as n grows. An interval of a bootstrap is
taken to narrow with the root of n:
    n' > n (distance from the figure to the end of the interval / distance to the bound)^2
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import NormalDist

from dfqonnx.config.gates import (
    ESTIMATED_QUANTITIES,
    FILE_QUANTITIES,
    LABELED_QUANTITIES,
    GateRule,
    MeasureRef,
    Operator,
    Quantity,
    parse_gate,
)
from dfqonnx.evaluation.measures.task_measure import TaskMeasure, best_known
from dfqonnx.evaluation.statistics import Drop, Interval
from dfqonnx.report.build import NOT_SLOWER, SMALLER
from dfqonnx.report.measure_lines import describe_measure
from dfqonnx.report.number_format import format_interval, format_names, to_percent
from dfqonnx.report.report import Report
from dfqonnx.report.text import describe_agreement_estimate, describe_estimate, worst_output
from dfqonnx.report.verdict import EvidenceWarning, Gate, MeasuredValue, Origin, Scope, Topic

Z = NormalDist().inv_cdf(0.975)
MAX_IMAGES = 10**9  # a gate that more images than these would decide is left undecided
NO_LABELS = "labeled images are needed: give --eval-data"
_COMPARE: Mapping[Operator, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
TASK_RULES = (  # points that a user of the task would notice
    "map50.drop<=0.01", "miou.drop<=0.01", "characters.drop<=0.01", "fidelity_map50>=0.95",
    "fidelity_miou>=0.95", "fidelity_characters>=0.97", "ssim>=0.95",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class MeasuredQuantity:
    """The quantity that a gate is about, in `words` too; without an interval these say why.

    `images_needed` returns how many images would decide a bound; None where no number would.
    """

    interval: Interval | None
    words: str
    images_needed: Callable[[float], int | None] = lambda bound: None


def apply_gates(report: Report, rules: tuple[GateRule, ...], *, strict: bool = False) -> Report:
    """Return `report` with the user's rules among its gates, and with those of `--strict`."""
    checks = (gate for gate in report.gates if not _is_replaced(gate, rules))
    gates = [*checks, *(judge_gate(rule, report) for rule in rules)]
    if strict:
        gates = [dataclasses.replace(gate, is_required=True) for gate in gates]
        if not any(gate.topic == "accuracy" for gate in gates):
            gates.append(judge_gate(default_rule(report), report, origin="strict"))
    return dataclasses.replace(report, gates=tuple(gates), strict=strict)


def _is_replaced(check: Gate, rules: Sequence[GateRule]) -> bool:
    """Return whether the user has a rule of their own about what a check is about."""
    replaced_by = {SMALLER: {"size", "bytes"}, NOT_SLOWER: {"speedup"}}.get(check.rule, set())
    return not replaced_by.isdisjoint(rule.quantity for rule in rules)


def default_rule(report: Report) -> GateRule:
    """Return the rule about accuracy that `--strict` adds, see the top of this file."""
    estimate = report.estimated_drop
    if report.drop is not None:
        return parse_gate("drop<=1")
    if estimate is not None and estimate.value is not None:
        return parse_gate("estimated_drop<=2")
    for rule in TASK_RULES:
        measure = parse_gate(rule).measure
        found = None if measure is None else best_known(report.measures, measure.name)
        if measure is not None and found is not None and found.student is not None:
            return parse_gate(rule)
    return parse_gate("agreement>=0.97" if report.agreement.best_known else "sqnr>=20")


def judge_gate(rule: GateRule, report: Report, *, origin: Origin = "user") -> Gate:
    """Return the gate of one rule, decided where the measurements decide it."""
    found = _measure(rule.quantity, report)
    words, interval = found.words, found.interval
    topic: Topic = "file" if rule.quantity in FILE_QUANTITIES else "accuracy"
    gate = Gate(rule=rule.text, value=words, holds=None, topic=topic, origin=origin)
    if interval is None:
        return gate
    holds, needed = _compare_with_bound(rule, interval), None
    doubts = () if topic == "file" else find_doubts(rule.quantity, holds, report.evidence)
    if doubts:
        holds = None
        words += f"; the number cannot be trusted ({', '.join(doubts)})"
    elif holds is None:
        needed = found.images_needed(rule.bound)
        words += f"; {_what_would_decide(rule, interval, needed)}"
    measured = MeasuredValue(**dataclasses.asdict(interval), images_needed=needed)
    return dataclasses.replace(gate, value=words, holds=holds, measured=measured, doubts=doubts)


def _measure(quantity: Quantity | MeasureRef, report: Report) -> MeasuredQuantity:
    """Return the measurement of a quantity, without an interval where it is not known."""
    if isinstance(quantity, MeasureRef):
        return _task_measure(quantity, report)
    measure, missing = _MEASUREMENTS[quantity]
    return measure(report) or MeasuredQuantity(None, missing)


def _task_measure(wanted: MeasureRef, report: Report) -> MeasuredQuantity:
    """Return a task's measure on the inputs that say most."""
    found = best_known(report.measures, wanted.name)
    if found is None:
        names = ", ".join(dict.fromkeys(each.name for each in report.measures)) or "none"
        why = NO_LABELS if wanted.needs_labels else f"{wanted.name} was not measured"
        return MeasuredQuantity(None, f"{why}; measured: {names}")
    value = found.drop if wanted.is_drop else found.student
    if value is None:
        return MeasuredQuantity(None, found.meaning)
    words = describe_measure(found)
    if wanted.is_drop:
        words = f"{value:.4g}{found.unit} worse: {words}"
    interval = found.drop_interval if wanted.is_drop else found.interval
    if interval is None:
        return _exact(value, f"{words}; no interval: {_why_exact(found)}", max(1, found.n))
    return MeasuredQuantity(interval, words, partial(images_for_interval, interval))


def _why_exact(found: TaskMeasure) -> str:
    if found.task == "custom":
        return "the function returns totals, so the number is taken as it is"
    if found.n < 2:
        return "one input has none"
    return "too few of the inputs say something"


def find_doubts(
    quantity: Quantity | MeasureRef, holds: bool | None, evidence: Sequence[EvidenceWarning]
) -> tuple[str, ...]:
    """Return the names of the warnings because of which a rule about `quantity` is undecided."""
    return tuple(
        dict.fromkeys(
            found.name
            for found in evidence
            if _is_in_scope(quantity, found.scope)
            and (
                found.effect == "no judgment" or (found.effect == "no pass" and holds is not False)
            )
        )
    )


def _is_in_scope(quantity: Quantity | MeasureRef, scope: Scope) -> bool:
    """Return whether warnings of `scope` are about a quantity."""
    if scope == "inputs":
        return quantity not in ESTIMATED_QUANTITIES
    if isinstance(quantity, MeasureRef):
        return scope == "everything" or quantity.needs_labels
    return scope == "everything" or quantity in LABELED_QUANTITIES


def _compare_with_bound(rule: GateRule, interval: Interval) -> bool | None:
    """Return whether all (True), none (False) or a part (None) of the interval meets the bound."""
    ends = {_COMPARE[rule.operator](end, rule.bound) for end in (interval.low, interval.high)}
    return ends.pop() if len(ends) == 1 else None


def images_for_share(value: float, bound: float, n: int) -> int | None:
    """Return how many images would move Wilson's interval around `value` clear of `bound`."""
    if value == bound:
        return None
    needed = math.floor(Z**2 * bound * (1 - bound) / (value - bound) ** 2) + 1
    return max(needed, n + 1) if needed <= MAX_IMAGES else None


def images_for_interval(interval: Interval, bound: float) -> int | None:
    """Return how many images would move an interval that narrows with their root off `bound`."""
    gap = abs(bound - interval.value)
    reach = (
        interval.high - interval.value
        if bound > interval.value
        else (interval.value - interval.low)
    )
    if gap == 0 or interval.n * (reach / gap) ** 2 > MAX_IMAGES:
        return None
    return max(math.floor(interval.n * (reach / gap) ** 2) + 1, interval.n + 1)


def images_for_drop(drop: Drop, bound: float) -> int | None:
    """Return how many images would move the interval of a drop clear of `bound`, in points."""
    n = drop.points.n
    lost, gained, edge = drop.only_teacher / n, drop.only_student / n, bound / 100

    def is_clear(images: int) -> bool:
        p, q = (lost * images + 1) / (images + 2), (gained * images + 1) / (images + 2)
        reach = Z * math.sqrt((p + q - (p - q) ** 2) / (images + 2))
        return abs(p - q - edge) > reach

    below, above = n, 2 * n
    while not is_clear(above):
        below, above = above, 2 * above
        if above > MAX_IMAGES:
            return None
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if is_clear(middle) else (middle, above)
    return above


def _what_would_decide(rule: GateRule, interval: Interval, needed: int | None) -> str:
    if rule.quantity == "speedup":
        return "the bound lies between the quartiles: measure on a quieter machine"
    if rule.quantity == "estimated_drop":
        return "the bound lies in the interval: labeled images would decide (--eval-data)"
    if rule.quantity == "estimated_agreement":
        return "the bound lies in the interval: real images would decide (--eval-data, --images)"
    if needed is None:
        return "the estimate lies on the bound: no number of images would decide"
    what = "numbers" if rule.measure is not None or rule.quantity == "sqnr" else "shares"
    return (
        f"n = {interval.n:,} does not decide;"
        f" about {needed:,} images would, if the {what} stay as measured"
    )


def _drop(report: Report) -> MeasuredQuantity | None:
    drop = report.drop
    if drop is None:
        return None
    words = format_interval(drop.points, "points")
    return MeasuredQuantity(drop.points, words, lambda bound: images_for_drop(drop, bound))


def _estimated_drop(report: Report) -> MeasuredQuantity | None:
    found = report.estimated_drop
    if found is None:
        return None
    if found.value is None or found.low is None or found.high is None:
        return MeasuredQuantity(None, f"the drop {describe_estimate(found)}")
    interval = Interval(found.value, found.low, found.high, found.images)
    return MeasuredQuantity(interval, describe_estimate(found))


def _estimated_agreement(report: Report) -> MeasuredQuantity | None:
    found = report.estimated_agreement
    if found is None:
        return None
    words = describe_agreement_estimate(found)
    if found.value is None or found.low is None or found.high is None:
        return MeasuredQuantity(None, f"the agreement on real inputs {words}")
    return MeasuredQuantity(Interval(found.value, found.low, found.high, found.images), words)


def _top1(report: Report) -> MeasuredQuantity | None:
    found = report.student.top1
    if found is None:
        return None
    share, n = found.value / 100, found.n
    words = format_interval(found, "%")
    return MeasuredQuantity(found, words, lambda bound: images_for_share(share, bound / 100, n))


def _agreement(report: Report) -> MeasuredQuantity | None:
    found = report.agreement.best_known
    if found is None:
        return None
    share, n = found.value, found.n
    words = format_interval(to_percent(found), "%", report.agreement.best_known_set)
    return MeasuredQuantity(found, words, lambda bound: images_for_share(share, bound, n))


def _worst_sqnr(report: Report) -> MeasuredQuantity | None:
    """Return the measurement of the output with the least signal to noise ratio."""
    outputs, n = report.agreement.outputs, max(1, report.agreement.images)
    images = f"n = {report.agreement.images:,} {report.agreement.image_set} inputs"
    worst = worst_output(report)
    if worst is not None and worst.sqnr_db is not None:
        value, found = worst.sqnr_db, worst.sqnr_interval
        if found is None:
            return _exact(value, f"{value:.2f} dB on output {worst.name}, {images}", n)
        ends = f"95 %: {found.low:.2f} to {found.high:.2f}"
        words = f"{value:.2f} dB on output {worst.name} ({ends}), {images}"
        return MeasuredQuantity(found, words, partial(images_for_interval, found))
    if outputs and all(output.exact for output in outputs):
        words = f"infinite, because every output equals the teacher's, {images}"
        return _exact(math.inf, words, n)
    return None


def _size(report: Report) -> MeasuredQuantity | None:
    ratio = report.size_ratio
    return None if ratio is None else _exact(ratio, f"{ratio:.4f} times the float file")


def _bytes(report: Report) -> MeasuredQuantity | None:
    size = report.student.bytes
    return None if size is None else _exact(size, f"{size:,} bytes")


def _speedup(report: Report) -> MeasuredQuantity | None:
    t = report.latency
    if t is None:
        return None
    words = f"{t.speedup:.2f} times (quartiles: {t.low:.2f} to {t.high:.2f}, n = {t.turns:,} turns)"
    return MeasuredQuantity(Interval(t.speedup, t.low, t.high, t.turns), words)


def _float_nodes(report: Report) -> MeasuredQuantity | None:
    if report.audit is None:
        return None
    nodes = report.audit.float_nodes
    names = format_names([f"{node.name} ({node.op})" for node in nodes])
    return _exact(len(nodes), f"{len(nodes)}: {names}" if nodes else "none")


def _exact(value: float, words: str, n: int = 1) -> MeasuredQuantity:
    return MeasuredQuantity(Interval(float(value), float(value), float(value), n), words)


_NO_AGREEMENT = "agreement was not measured: the output has no classes, or there are no images"
_MEASUREMENTS: Mapping[Quantity, tuple[Callable[[Report], MeasuredQuantity | None], str]] = {
    # quantity -> its measurement, and why it may be unknown
    "drop": (_drop, NO_LABELS),
    "estimated_drop": (_estimated_drop, "the drop was not estimated"),
    "estimated_agreement": (_estimated_agreement, "the agreement was not estimated"),
    "top1": (_top1, NO_LABELS),
    "agreement": (_agreement, _NO_AGREEMENT),
    "sqnr": (_worst_sqnr, "no output has a signal to noise ratio"),
    "size": (_size, "the sizes are not known"),
    "bytes": (_bytes, "the size is not known"),
    "speedup": (_speedup, "the speed was not measured"),
    "float_nodes": (_float_nodes, "the runtime could not be asked"),
}
