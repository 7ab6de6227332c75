"""Rows of the page's tables: the three models side by side, and every node of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfqonnx.core.layer_analysis import WeightedLayerNoise
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.html.charts import LabeledInterval
from dfqonnx.report.number_format import format_bounds, format_count, format_size, to_percent
from dfqonnx.report.report import Report
from dfqonnx.report.sections import TrainingFacts


@dataclass(frozen=True)
class Cell:
    """A number, and its interval or meaning in small print; an empty text is unknown."""

    value: str = ""
    note: str = ""


UNKNOWN = Cell()
SAME = Cell("as quantized")
NOT_TRAINED = TrainingFacts(steps=0, kept=False)


@dataclass(frozen=True)
class ModelComparison:
    """One line about the float model, the untrained student and the student."""

    label: str
    teacher: Cell = UNKNOWN
    untrained: Cell = UNKNOWN
    student: Cell = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class NodeRow:
    """One node of the graph.

    Attributes:
        number: its place in the graph's order, from 1; `#n<number>` is its anchor.
        reads: (number, name) of the nodes whose outputs it reads.
        layer: bits and noise, for a node with weights.
        float_reason: why it stayed in float; empty when it did not.
    """

    number: int
    name: str
    op: str
    reads: tuple[tuple[int, str], ...]
    layer: WeightedLayerNoise | None
    multiply_adds: int
    parameters: int
    float_reason: str


def node_rows(report: Report) -> tuple[NodeRow, ...]:
    """Return every node in graph order."""
    numbers = {node.node: k for k, node in enumerate(report.graph, 1)}
    noise = report.layer_noise
    layers = {} if noise is None else {layer.node: layer for layer in noise.layers}
    floats = {} if report.audit is None else {n.name: n.reason for n in report.audit.float_nodes}
    return tuple(
        NodeRow(
            number=numbers[node.node],
            name=node.node,
            op=node.op,
            reads=tuple((numbers[name], name) for name in node.reads if name in numbers),
            layer=layers.get(node.node),
            multiply_adds=node.multiply_adds,
            parameters=node.parameters,
            float_reason=floats.get(node.node, ""),
        )
        for node in report.graph
    )


def compare_models(report: Report) -> Iterator[ModelComparison]:
    """Yield what is known of the float model, the untrained student and the student."""
    rows = (*_compare_accuracy(report), *_compare_cost(report))
    yield from (row for row in rows if row.student != UNKNOWN)


def _compare_accuracy(report: Report) -> Iterator[ModelComparison]:
    agreement, before = report.agreement, report.training or NOT_TRAINED
    if report.teacher.top1 is not None:
        tops = report.teacher.top1, before.untrained_top1, report.student.top1
        yield ModelComparison("top-1, labeled images", *map(_percent_cell, tops))
    if report.drop is not None:
        points = report.drop.points
        drop = Cell(f"{points.value:.2f} points", format_bounds(points))
        yield ModelComparison("top-1 drop, image by image", student=drop)
    estimate = report.estimated_drop
    if estimate is not None and estimate.value is not None:
        note = f"90 %: {estimate.low:.2f} to {estimate.high:.2f}, from {estimate.basis}"
        drop = Cell(f"{estimate.value:.2f} points", note)
        yield ModelComparison("top-1 drop, estimated without labels", student=drop)
    told = report.estimated_agreement
    if told is not None and told.value is not None and told.low is not None:
        note = f"90 %: {100 * told.low:.1f} to {100 * (told.high or 0):.1f} %, from {told.basis}"
        share = Cell(f"{100 * told.value:.1f} %", note)
        yield ModelComparison("agreement with float on real inputs, estimated", student=share)
    yield ModelComparison(
        "agreement with float, labeled images", student=_share_cell(agreement.evaluation)
    )
    yield ModelComparison(
        "agreement with float, held-out synthetic images",
        untrained=_share_cell(before.untrained_agreement),
        student=_share_cell(agreement.synthetic),
    )
    yield ModelComparison(
        "divergence from float, held-out synthetic images",
        untrained=_nats_cell(before.untrained_kl),
        student=_nats_cell(before.trained_kl),
    )


def _compare_cost(report: Report) -> Iterator[ModelComparison]:
    teacher, student, t = report.teacher.bytes, report.student.bytes, report.latency
    if report.bits is not None:
        bits = Cell(report.bits.label)
        yield ModelComparison("bits", Cell("float"), bits, bits)
    if teacher and student is not None:
        found = Cell(format_size(student), f"{student / teacher:.3f} times the float file")
        yield ModelComparison("size", Cell(format_size(teacher)), SAME, found)
    if t is not None:
        note = f"{t.speedup:.2f} times the speed, quartiles {t.low:.2f} to {t.high:.2f}"
        label = f"latency, batch {t.batch}, {format_count(t.threads, 'thread')}"
        found = Cell(f"{t.student_ms:.2f} ms", note)
        yield ModelComparison(label, Cell(f"{t.teacher_ms:.2f} ms"), SAME, found)


def labeled_intervals(report: Report) -> tuple[LabeledInterval, ...]:
    """Return the shares of the models that have intervals: top-1, without labels agreement."""
    before = (report.training if is_trained(report) else None) or NOT_TRAINED
    found: list[tuple[str, Interval | None]]
    if report.teacher.top1 is not None and report.student.top1 is not None:
        found = [
            ("top-1, float", report.teacher.top1),
            ("top-1, untrained", before.untrained_top1),
            ("top-1, quantized", report.student.top1),
        ]
    else:
        shares = before.untrained_agreement, report.agreement.synthetic
        percent = [None if share is None else to_percent(share) for share in shares]
        found = list(zip(("untrained", "quantized"), percent, strict=True))
    return tuple(
        LabeledInterval(label, share, label.endswith("quantized"))
        for label, share in found
        if share is not None
    )


def is_trained(report: Report) -> bool:
    """Return whether the student was trained, so that there is an untrained one beside it."""
    return report.training is not None and report.training.steps > 0 and report.training.kept


def _percent_cell(found: Interval | None) -> Cell:
    return UNKNOWN if found is None else Cell(f"{found.value:.2f} %", format_bounds(found))


def _share_cell(found: Interval | None) -> Cell:
    return UNKNOWN if found is None else _percent_cell(to_percent(found))


def _nats_cell(value: float | None) -> Cell:
    return UNKNOWN if value is None else Cell(f"{value:.3f} nats")
