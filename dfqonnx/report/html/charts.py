"""The page's charts, drawn by matplotlib: intervals, noise, training, values, the estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfqonnx.core.layer_analysis import CodeOccupancy, WeightedLayerNoise
from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.drop_estimate.regression import UNIT, HeldOutPrediction
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.html import svg as d
from dfqonnx.report.sections import TrainingLogEntry

SPIKE = 1.5  # a single bin, that of zeros, is cut off when it is that much higher than the others
MOST_LINES = 32  # a grid with more levels is drawn as a band


@dataclass(frozen=True)
class Whisker:
    """A share in percent with its interval; `ours` marks the result itself."""

    label: str
    found: Interval
    ours: bool


@dataclass(frozen=True)
class Point:
    """A student: its number, its size over the float file's, a share in percent."""

    label: str
    size: float
    found: Interval


def times100(found: Interval) -> Interval:
    """Return a share in percent."""
    return Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n)


def intervals(rows: Sequence[Whisker]) -> str:
    """Draw estimates with their 95 % intervals, one row each, on one percent axis."""
    fig = d.figure(360, 34 + 34 * len(rows))
    ax = d.axes(fig, 8, 24, top=8, right=14)
    ax.grid(visible=False)
    ax.grid(axis="x", color=d.RULE, linewidth=0.7)
    for y, row in enumerate(rows):
        color, found = d.FIRST if row.ours else d.SECOND, row.found
        ax.plot([found.low, found.high], [y, y], color=color, linewidth=2)
        ax.plot([found.value], [y], "o", color=color, markersize=6)
        left = found.value < (min(r.found.low for r in rows) + max(r.found.high for r in rows)) / 2
        ax.annotate(
            f"{row.label} {found.value:.1f} %",
            (found.low if left else found.high, y),
            xytext=(0, 5),
            textcoords="offset points",
            ha="left" if left else "right",
            fontsize=10,
        )
    ax.set_ylim(len(rows) - 0.6, -0.8)
    ax.set_yticks([])
    return d.svg(fig, "Estimates with 95 percent intervals")


def scatter(points: Sequence[Point]) -> str:
    """Draw shares with their intervals against sizes, each with its number."""
    fig = d.figure(360, 220)
    ax = d.axes(fig, 40, 36, right=14)
    for point in points:
        found = point.found
        ax.plot([point.size] * 2, [found.low, found.high], color=d.SECOND, linewidth=1.5)
        ax.plot([point.size], [found.value], "o", color=d.FIRST, markersize=5)
        at = (point.size, found.value)
        ax.annotate(point.label, at, xytext=(6, 3), textcoords="offset points")
    ax.set_xlim(0, 1.12 * max(point.size for point in points))
    ax.set_xlabel("size", loc="right")
    ax.set_ylabel("percent")
    return d.svg(fig, "Percent against size over the float file")


def noise(layers: Sequence[WeightedLayerNoise], targets: Sequence[str]) -> str:
    """Draw each layer's signal to noise, in the network and alone; a bar leads to its node."""
    fig = d.figure(max(760, 52 + 18 * len(layers)), 190)
    ax = d.axes(fig, 34, 34)
    x = np.arange(1, len(layers) + 1)
    total = [np.nan if layer.sqnr_db is None else layer.sqnr_db for layer in layers]
    alone = [np.nan if layer.own_db is None else layer.own_db for layer in layers]
    bars = ax.bar(x, np.nan_to_num(total), width=0.7, color=d.FIRST)
    for bar, target in zip(bars, targets, strict=True):
        bar.set_url(target)
    ax.plot(x, alone, "o", color=d.SECOND, markersize=5)
    ax.set_xlim(0.3, len(layers) + 0.7)
    step = 1 if len(layers) <= 24 else 5
    ax.set_xticks([k for k in x if k == 1 or k % step == 0])
    ax.set_xlabel("layer", loc="right")
    ax.set_ylabel("dB")
    return d.svg(fig, "Signal to quantization noise of every layer, in decibels")


def training(history: Sequence[TrainingLogEntry]) -> str:
    """Draw the loss over the steps, and below it the learning rate."""
    fig = d.figure(360, 220)
    upper, lower = d.axes(fig, 44, 92), d.axes(fig, 44, 34, top=142)
    steps = [moment.step for moment in history]
    upper.plot(steps, [moment.loss for moment in history], color=d.FIRST, linewidth=1.8)
    upper.set_yscale("log")
    upper.yaxis.set_minor_formatter("{x:g}")
    upper.yaxis.set_major_formatter("{x:g}")
    upper.tick_params(which="minor", length=0, labelsize=8)
    upper.set_ylabel("loss")
    upper.set_xticklabels([])
    lower.plot(steps, [moment.rate for moment in history], color=d.SECOND, linewidth=1.8)
    if any(moment.width for moment in history):
        widths = [moment.width for moment in history]
        lower.plot(steps, widths, color=d.FIRST, linewidth=1.2, linestyle="--")
    lower.set_ylim(0, 1.08)
    lower.set_yticks([0, 1])
    lower.set_ylabel("rate")
    lower.set_xlabel("step", loc="right")
    return d.svg(fig, "Training loss and learning rate by step")


def values(found: CodeOccupancy) -> str:
    """Draw a histogram over its grid; heights are square roots, so that tails can be seen."""
    h = found.histogram
    fig = d.figure(200, 76)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    edges = h.first + h.width * np.arange(len(h.counts) + 1)
    heights = np.sqrt(np.asarray(h.counts, dtype=np.float64))
    second, most = np.sort(heights)[-2:] if len(heights) > 1 else (1.0, 1.0)
    top = max(1.0, float(min(most, SPIKE * second)))
    left, right = found.lo - 0.5, found.hi + 0.5
    for low, high in ((edges[0], left), (right, edges[-1])):
        ax.fill_between([low, high], 0, top, color=d.BAD, alpha=0.12, linewidth=0)
    ax.stairs(heights, edges, fill=True, color=d.FIRST, alpha=0.75, linewidth=0)
    if found.hi - found.lo < MOST_LINES:
        levels = np.arange(found.lo, found.hi + 1)
        ax.vlines(levels, 0, top, color=d.INK, linewidth=0.5, alpha=0.35)
    ax.plot([edges[0], edges[-1]], [0, 0], color=d.MUTED, linewidth=1)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(-0.02 * top, top)
    return d.svg(fig, f"Values on a grid of {found.hi - found.lo + 1} levels")


def calibration(known: Sequence[HeldOutPrediction], found: Estimate, true: float | None) -> str:
    """Draw true drops against those predicted of networks left out, and this student's interval.

    Args:
        known: students of the calibration.
        found: the estimate.
        true: this student's drop as measured; None without labels.
    """
    assert found.value is not None
    fig = d.figure(360, 250)
    ax = d.axes(fig, 40, 36, right=14)
    ticks = (-1, 0, 1, 2, 5, 10, 20, 50, 100)

    def scaled(points: float) -> float:
        return float(np.arcsinh(points / UNIT))

    ends = scaled(-1), scaled(100)
    ax.plot(ends, ends, color=d.RULE, linewidth=1.2)
    x, y = (
        [scaled(v) for v in row]
        for row in ([t.value for t in known], [t.student.drop for t in known])
    )
    ax.plot(x, y, "o", color=d.SECOND, markersize=3.5, alpha=0.55)
    here = scaled(found.value)
    ax.plot([here] * 2, [scaled(found.low or 0), scaled(found.high or 0)], color=d.FIRST, lw=4)
    if true is not None:
        ax.plot([here], [scaled(true)], "o", color=d.INK, markersize=6)
    for axis, label in ((ax.xaxis, "estimated, points"), (ax.yaxis, "true, points")):
        axis.set_ticks([scaled(tick) for tick in ticks], [f"{tick}" for tick in ticks])
        axis.set_label_text(label)
    ax.xaxis.set_label_coords(1, -0.12)
    ax.xaxis.label.set_horizontalalignment("right")
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    return d.svg(fig, "True against estimated drops, in points")
