"""The page's charts, drawn by matplotlib: intervals, noise, training, histograms, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfqonnx.core.bit_choice import BitChoice
from dfqonnx.core.layer_analysis import CodeOccupancy, WeightedLayerNoise
from dfqonnx.core.quantization import MAX_BITS
from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.drop_estimate.regression import HeldOutPrediction
from dfqonnx.evaluation.drop_estimate.saturating_loss import UNIT
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.html import svg
from dfqonnx.report.sections import TrainingLogEntry

MAX_SPIKE = 1.5  # the highest bin, that of zeros, is cut at so many times the second highest
SHAPES = ("o", "s", "^", "D", "v", "P", "X")  # of the points in turn
SIDE_BY_SIDE = 0.045  # of an axis: the least distance of two points
LEAST_LOSS = 1e-9  # what is less is drawn there
MAX_CODE_LINES = 32  # more codes than these are not drawn as single lines


@dataclass(frozen=True)
class LabeledInterval:
    """A share in percent with its interval; the result itself is highlighted."""

    label: str
    interval: Interval
    is_result: bool


@dataclass(frozen=True, kw_only=True)
class ComparisonPoint:
    """A model: its label, its size over the float file's, and a number; None is a line."""

    label: str
    size_ratio: float
    value: float | None
    interval: Interval | None = None


def draw_intervals(rows: Sequence[LabeledInterval]) -> str:
    """Draw estimates with their 95 % intervals, one row each, on one axis in percent."""
    fig = svg.new_figure(360, 34 + 34 * len(rows))
    ax = svg.add_axes(fig, 8, 24, top=8, right=14)
    ax.grid(visible=False)
    ax.grid(axis="x", color=svg.RULE, linewidth=0.7)
    middle = (min(r.interval.low for r in rows) + max(r.interval.high for r in rows)) / 2
    for y, row in enumerate(rows):
        color, found = svg.FIRST if row.is_result else svg.SECOND, row.interval
        ax.plot([found.low, found.high], [y, y], color=color, linewidth=2)
        ax.plot([found.value], [y], "o", color=color, markersize=6)
        is_left = found.value < middle
        ax.annotate(
            f"{row.label} {found.value:.1f} %",
            (found.low if is_left else found.high, y),
            xytext=(0, 5),
            textcoords="offset points",
            ha="left" if is_left else "right",
            fontsize=10,
        )
    ax.set_ylim(len(rows) - 0.6, -0.8)
    ax.set_yticks([])
    return svg.to_svg(fig, "Estimates with 95 percent intervals")


def draw_comparison(points: Sequence[ComparisonPoint], *, unit: str) -> str:
    """Draw numbers with their intervals over file sizes, the first one that of the float model.

    Every point has a label and its own shape. Where sizes are nearly equal, points stand side by
    side. A model without a number is a dashed line at its size.
    """
    fig = svg.new_figure(360, 230)
    ax = svg.add_axes(fig, 46, 36, right=14, top=18)
    widest = 1.12 * max(point.size_ratio for point in points)
    places = spread_apart([point.size_ratio for point in points], SIDE_BY_SIDE * widest)
    for k, (point, x) in enumerate(zip(points, places, strict=True)):
        color, shape = (svg.FIRST, SHAPES[(k - 1) % len(SHAPES)]) if k else (svg.SECOND, "*")
        top = point.value
        if point.value is None:
            ax.axvline(x, color=color, linewidth=1.2, linestyle="--")
        else:
            ax.plot([x], [point.value], shape, color=color, markersize=6 if k else 10)
        if point.interval is not None:
            ax.plot([x, x], [point.interval.low, point.interval.high], color=color, linewidth=1.2)
            top = point.interval.high
        ax.annotate(
            point.label,
            (x, 1.0 if top is None else top),
            xycoords=ax.get_xaxis_transform() if top is None else "data",
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
        )
    ax.margins(y=0.16)
    ax.set_xlim(min(0, min(places) - SIDE_BY_SIDE * widest), max(widest, 1.02 * max(places)))
    ax.set_xlabel("size over the float file's", loc="right")
    ax.set_ylabel(unit)
    return svg.to_svg(fig, "A column of the table over file size relative to the float file")


def spread_apart(places: Sequence[float], gap: float) -> list[float]:
    """Return places that are at least `gap` apart, in the same order, and moved little.

    Neighbors that are too near become a group, spaced evenly around its mean; groups that then
    touch become one. Equal places keep the order given.
    """
    groups: list[list[int]] = []

    def first(group: list[int]) -> float:
        middle = sum(places[k] for k in group) / len(group)
        return middle - gap * (len(group) - 1) / 2

    for k in sorted(range(len(places)), key=lambda k: places[k]):
        group = [k]
        while groups and first(groups[-1]) + gap * len(groups[-1]) > first(group):
            group = groups.pop() + group
        groups.append(group)
    found = {k: first(group) + gap * n for group in groups for n, k in enumerate(group)}
    return [found[k] for k in range(len(places))]


def draw_layer_noise(layers: Sequence[WeightedLayerNoise], anchors: Sequence[str]) -> str:
    """Draw the SQNR of each layer, in the network and isolated; a bar links to its node."""
    fig = svg.new_figure(max(760, 52 + 18 * len(layers)), 190)
    ax = svg.add_axes(fig, 34, 34)
    x = np.arange(1, len(layers) + 1)
    in_network = np.array([layer.in_network_sqnr_db for layer in layers], dtype=np.float64)
    isolated = np.array([layer.isolated_sqnr_db for layer in layers], dtype=np.float64)
    bars = ax.bar(x, np.nan_to_num(in_network), width=0.7, color=svg.FIRST)
    for bar, anchor in zip(bars, anchors, strict=True):
        bar.set_url(anchor)
    ax.plot(x, isolated, "o", color=svg.SECOND, markersize=5)
    ax.set_xlim(0.3, len(layers) + 0.7)
    every = 1 if len(layers) <= 24 else 5
    ax.set_xticks([k for k in x if k == 1 or k % every == 0])
    ax.set_xlabel("layer", loc="right")
    ax.set_ylabel("SQNR, dB")
    return svg.to_svg(fig, "Signal to quantization noise ratio of every layer, in decibels")


def draw_sensitivity(choice: BitChoice) -> str:
    """Draw what each layer's weight costs at each width, and what it reads at eight bits."""
    costs = choice.sensitivity.of("weight")
    widths = choice.sensitivity.widths("weight")
    chosen = {node.node: node.widths for node in choice.nodes}
    nodes = list(dict.fromkeys(node for node, _ in costs))
    places = {node: number for number, node in enumerate(nodes, start=1)}
    fig = svg.new_figure(max(760, 52 + 18 * len(nodes)), 220)
    ax = svg.add_axes(fig, 48, 34)
    for node, place in places.items():
        losses = [max(costs[node, bits].loss, LEAST_LOSS) for bits in widths]
        taken = [chosen.get(node, "").startswith(f"w{bits}a") for bits in widths]
        ax.plot([place] * len(losses), losses, color=svg.RULE, linewidth=1)
        ax.scatter([place] * len(losses), losses, s=[42 if t else 12 for t in taken], c=svg.FIRST)
    for cost in choice.sensitivity.costs:
        if cost.kind == "activation" and cost.bits == MAX_BITS:
            for node in (reader for reader in cost.readers if reader in places):
                ax.plot([places[node]], [max(cost.loss, LEAST_LOSS)], "x", color=svg.SECOND)
    ax.set_yscale("log")
    ax.set_xlim(0.3, len(nodes) + 0.7)
    ax.set_xlabel("layer", loc="right")
    ax.set_ylabel("loss")
    return svg.to_svg(fig, "What the weight of every layer costs at each width")


def draw_training(log: Sequence[TrainingLogEntry]) -> str:
    """Draw the loss over the steps, and below it the learning rate."""
    fig = svg.new_figure(360, 220)
    upper, lower = svg.add_axes(fig, 44, 92), svg.add_axes(fig, 44, 34, top=142)
    steps = [entry.step for entry in log]
    upper.plot(steps, [entry.loss for entry in log], color=svg.FIRST, linewidth=1.8)
    upper.set_yscale("log")
    upper.yaxis.set_minor_formatter("{x:g}")
    upper.yaxis.set_major_formatter("{x:g}")
    upper.tick_params(which="minor", length=0, labelsize=8)
    upper.set_ylabel("loss")
    upper.set_xticklabels([])
    lower.plot(steps, [entry.lr_factor for entry in log], color=svg.SECOND, linewidth=1.8)
    temperatures = [entry.rounding_temperature for entry in log]
    if any(temperatures):
        lower.plot(steps, temperatures, color=svg.FIRST, linewidth=1.2, linestyle="--")
    lower.set_ylim(0, 1.08)
    lower.set_yticks([0, 1])
    lower.set_ylabel("rate")
    lower.set_xlabel("step", loc="right")
    return svg.to_svg(fig, "Training loss and learning rate by step")


def draw_histogram(found: CodeOccupancy) -> str:
    """Draw the values over the codes; heights are square roots, so that tails can be seen."""
    h = found.histogram
    fig = svg.new_figure(200, 76)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    edges = h.first + h.width * np.arange(len(h.counts) + 1)
    heights = np.sqrt(np.asarray(h.counts, dtype=np.float64))
    second, highest = np.sort(heights)[-2:] if len(heights) > 1 else (1.0, 1.0)
    top = max(1.0, float(min(highest, MAX_SPIKE * second)))
    left, right = found.lowest - 0.5, found.highest + 0.5
    for low, high in ((edges[0], left), (right, edges[-1])):
        ax.fill_between([low, high], 0, top, color=svg.BAD, alpha=0.12, linewidth=0)
    ax.stairs(heights, edges, fill=True, color=svg.FIRST, alpha=0.75, linewidth=0)
    if found.highest - found.lowest < MAX_CODE_LINES:
        codes = np.arange(found.lowest, found.highest + 1)
        ax.vlines(codes, 0, top, color=svg.INK, linewidth=0.5, alpha=0.35)
    ax.plot([edges[0], edges[-1]], [0, 0], color=svg.MUTED, linewidth=1)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(-0.02 * top, top)
    return svg.to_svg(fig, f"Histogram over {found.highest - found.lowest + 1} codes")


def draw_calibration(
    known: Sequence[HeldOutPrediction], found: Estimate, true: float | None
) -> str:
    """Draw true over predicted drops of left-out networks, and this student's interval and drop."""
    assert found.value is not None
    fig = svg.new_figure(360, 250)
    ax = svg.add_axes(fig, 40, 36, right=14)
    ticks = (-1, 0, 1, 2, 5, 10, 20, 50, 100)

    def scaled(points: float) -> float:
        return float(np.arcsinh(points / UNIT))

    ends = scaled(-1), scaled(100)
    ax.plot(ends, ends, color=svg.RULE, linewidth=1.2)
    x, y = [scaled(t.value) for t in known], [scaled(t.student.drop) for t in known]
    ax.plot(x, y, "o", color=svg.SECOND, markersize=3.5, alpha=0.55)
    here = scaled(found.value)
    ax.plot([here] * 2, [scaled(found.low or 0), scaled(found.high or 0)], color=svg.FIRST, lw=4)
    if true is not None:
        ax.plot([here], [scaled(true)], "o", color=svg.INK, markersize=6)
    for axis, label in ((ax.xaxis, "estimated drop, points"), (ax.yaxis, "true drop, points")):
        axis.set_ticks([scaled(tick) for tick in ticks], [f"{tick}" for tick in ticks])
        axis.set_label_text(label)
    ax.xaxis.set_label_coords(1, -0.12)
    ax.xaxis.label.set_horizontalalignment("right")
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    return svg.to_svg(fig, "True over estimated drops, in points")
