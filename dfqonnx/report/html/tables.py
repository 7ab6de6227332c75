"""Rows of the page's tables: the three models side by side, layers, and every node's place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfqonnx.core.layer_analysis import WeightedLayerNoise
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.html.charts import Whisker, times100
from dfqonnx.report.report import Report


@dataclass(frozen=True)
class Fact:
    """A figure, and its interval or what it means; empty is unknown."""

    value: str = ""
    note: str = ""


@dataclass(frozen=True)
class Side:
    """One fact of the float model, the untrained student and the student."""

    what: str
    teacher: Fact
    untrained: Fact
    student: Fact


EQUAL = Fact("as dfqonnx")


@dataclass(frozen=True)
class Node:
    """One node of the graph.

    Attributes:
        number: its place in the order, from 1; `#n<number>` is its anchor.
        name: as in the file.
        op: operator.
        reads: (number, name) of the nodes before it.
        layer: bits and noise, for a weighted node.
        multiply_adds: for one image.
        parameters: that it owns.
        why: why it stayed in float; empty when it did not.
    """

    number: int
    name: str
    op: str
    reads: tuple[tuple[int, str], ...]
    layer: WeightedLayerNoise | None
    multiply_adds: int
    parameters: int
    why: str


def nodes(report: Report) -> tuple[Node, ...]:
    """Return every node in graph order."""
    numbers = {place.node: k for k, place in enumerate(report.graph, 1)}
    layers = {} if report.portrait is None else {p.node: p for p in report.portrait.layers}
    floats = {} if report.audit is None else {n.name: n.reason for n in report.audit.float_nodes}
    return tuple(
        Node(
            numbers[place.node],
            place.node,
            place.op,
            tuple((numbers[name], name) for name in place.reads if name in numbers),
            layers.get(place.node),
            place.multiply_adds,
            place.parameters,
            floats.get(place.node, ""),
        )
        for place in report.graph
    )


def sides(report: Report) -> Iterator[Side]:
    """Yield what is known of the three models."""
    yield from _accuracy(report)
    teacher, student = report.teacher, report.student
    if report.bits is not None:
        label = Fact(f"W{report.bits.weights}A{report.bits.activations}")
        yield Side("bits", Fact("float"), label, label)
    if teacher.bytes and student.bytes is not None:
        ratio = f"{student.bytes / teacher.bytes:.3f} of the float file"
        yield Side("size", Fact(kib(teacher.bytes)), EQUAL, Fact(kib(student.bytes), ratio))
    if report.latency is not None:
        t = report.latency
        threads = "1 thread" if t.threads == 1 else f"{t.threads} threads"
        note = f"{t.speedup:.2f} times as fast, quartiles {t.low:.2f} to {t.high:.2f}"
        yield Side(
            f"latency, batch {t.batch}, {threads}",
            Fact(f"{t.teacher_ms:.2f} ms"),
            EQUAL,
            Fact(f"{t.student_ms:.2f} ms", note),
        )


def _accuracy(report: Report) -> Iterator[Side]:
    if report.teacher.top1 is not None and report.student.top1 is not None:
        top1 = _bounded(report.teacher.top1), _bounded(report.student.top1)
        before = None if report.training is None else report.training.untrained_top1
        middle = Fact() if before is None else _bounded(before)
        yield Side("top-1, labeled images", top1[0], middle, top1[1])
    if report.drop is not None:
        points = report.drop.points
        drop = Fact(f"{points.value:.2f} points", _between(points))
        yield Side("top-1 lost, image by image", Fact(), Fact(), drop)
    estimate = report.estimate
    if estimate is not None and estimate.value is not None:
        note = f"90 %: {estimate.low:.2f} to {estimate.high:.2f}, from {estimate.basis}"
        told = Fact(f"{estimate.value:.2f} points", note)
        yield Side("top-1 lost, told without labels", Fact(), Fact(), told)
    if report.agreement.eval is not None:
        share = _bounded(times100(report.agreement.eval))
        yield Side("same class as float, labeled images", Fact(), Fact(), share)
    training = report.training
    if report.agreement.synthetic is not None:
        before = training.untrained if training is not None else None
        yield Side(
            "same class as float, held-out synthetic images",
            Fact(),
            Fact() if before is None else _bounded(times100(before)),
            _bounded(times100(report.agreement.synthetic)),
        )
    if training is not None and training.trained_kl is not None:
        before_kl = Fact() if training.untrained_kl is None else _nats(training.untrained_kl)
        yield Side("divergence from float, there", Fact(), before_kl, _nats(training.trained_kl))


def whiskers(report: Report) -> tuple[Whisker, ...]:
    """Return the shares that have intervals, in reading order."""
    found: list[Whisker] = []
    if report.teacher.top1 is not None and report.student.top1 is not None:
        found.append(Whisker("top-1, float", report.teacher.top1, ours=False))
        plain = None if report.training is None else report.training.untrained_top1
        if trained(report) and plain is not None:
            found.append(Whisker("top-1, untrained", plain, ours=False))
        found.append(Whisker("top-1, dfqonnx", report.student.top1, ours=True))
        return tuple(found)
    if trained(report) and report.training is not None and report.training.untrained is not None:
        found.append(Whisker("untrained", times100(report.training.untrained), ours=False))
    if report.agreement.synthetic is not None:
        found.append(Whisker("dfqonnx", times100(report.agreement.synthetic), ours=True))
    return tuple(found)


def trained(report: Report) -> bool:
    """Tell whether there is an untrained student to compare with."""
    return report.training is not None and report.training.steps > 0 and report.training.kept


def _bounded(found: Interval) -> Fact:
    return Fact(f"{found.value:.2f} %", _between(found))


def _between(found: Interval) -> str:
    return f"{found.low:.2f} to {found.high:.2f}, n = {found.n:,}"


def _nats(value: float) -> Fact:
    return Fact(f"{value:.3f} nats")


def kib(size: int) -> str:
    """Return a size for reading."""
    return f"{size / 1024:,.0f} KiB" if size < 10 * 2**20 else f"{size / 2**20:,.1f} MiB"
