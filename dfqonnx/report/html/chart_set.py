"""Chooses the charts of a page; without matplotlib there are none, and the page says so."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dfqonnx.core.layer_analysis import CodeOccupancy
from dfqonnx.evaluation.drop_estimate.regression import Basis, shipped_predictions
from dfqonnx.report.html import charts
from dfqonnx.report.html.svg import chart_settings
from dfqonnx.report.html.tables import NodeRow, labeled_intervals
from dfqonnx.report.report import Report

MAX_HISTOGRAMS = 24  # of weights and of activations; the noisiest come first
NO_CHARTS = (
    "Charts need matplotlib: install it with `pip install matplotlib`, and run `dfqonnx report`"
    " on this folder."
)


@dataclass(frozen=True, kw_only=True)
class HistogramChart:
    """A histogram over codes, with what its caption needs; an activation has no anchor.

    `sqnr_db` is that of the activation, or of the node's output, isolated.
    """

    name: str
    anchor: str = ""
    bits: int
    sqnr_db: float | None
    occupancy: CodeOccupancy
    svg: str


@dataclass(frozen=True, kw_only=True)
class ChartSet:
    """Every chart as SVG; empty texts and tuples where there is nothing to draw.

    Attributes:
        is_available: whether matplotlib is installed.
        left_out: how many histograms are in report.json alone.
    """

    is_available: bool
    intervals: str = ""
    estimate: str = ""
    noise: str = ""
    sensitivity: str = ""
    training: str = ""
    weights: tuple[HistogramChart, ...] = ()
    activations: tuple[HistogramChart, ...] = ()
    left_out: int = 0


def has_matplotlib() -> bool:
    """Return whether charts can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_charts(report: Report, nodes: Sequence[NodeRow]) -> ChartSet:
    """Return the charts of a report."""
    if not has_matplotlib():
        return ChartSet(is_available=False)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports on its font cache
    layers = [(node.layer, f"#n{node.number}") for node in nodes if node.layer is not None]
    with chart_settings():
        weights, activations = _weight_histograms(nodes), _activation_histograms(report)
        shares = labeled_intervals(report)
        log = () if report.training is None else report.training.log
        noise, choice = report.layer_noise, report.bit_choice
        kinds = () if noise is None else (noise.layers, noise.activations)
        return ChartSet(
            is_available=True,
            intervals=charts.draw_intervals(shares) if shares else "",
            estimate=_draw_estimate(report),
            noise=charts.draw_layer_noise(*zip(*layers, strict=True)) if layers else "",
            sensitivity="" if choice is None else charts.draw_sensitivity(choice),
            training=charts.draw_training(log) if len(log) > 1 else "",
            weights=weights,
            activations=activations,
            left_out=sum(max(0, len(kind) - MAX_HISTOGRAMS) for kind in kinds),
        )


def _draw_estimate(report: Report) -> str:
    found = report.estimated_drop
    if found is None or found.value is None:
        return ""
    basis: Basis = "real" if "real" in found.basis else "fixed"
    true = None if report.drop is None else report.drop.points.value
    return charts.draw_calibration(shipped_predictions(basis), found, true)


def _weight_histograms(nodes: Sequence[NodeRow]) -> tuple[HistogramChart, ...]:
    found = [(node, node.layer) for node in nodes if node.layer is not None]
    noisiest = sorted(found, key=lambda pair: _known_or_last(pair[1].isolated_sqnr_db))
    return tuple(
        HistogramChart(
            name=node.name,
            anchor=f"#n{node.number}",
            bits=layer.weight_bits,
            sqnr_db=layer.isolated_sqnr_db,
            occupancy=layer.weight,
            svg=charts.draw_histogram(layer.weight),
        )
        for node, layer in noisiest[:MAX_HISTOGRAMS]
    )


def _activation_histograms(report: Report) -> tuple[HistogramChart, ...]:
    found = () if report.layer_noise is None else report.layer_noise.activations
    noisiest = sorted(found, key=lambda item: (item.bits, _known_or_last(item.sqnr_db)))
    return tuple(
        HistogramChart(
            name=item.quantizer,
            bits=item.bits,
            sqnr_db=item.sqnr_db,
            occupancy=item.values,
            svg=charts.draw_histogram(item.values),
        )
        for item in noisiest[:MAX_HISTOGRAMS]
    )


def _known_or_last(decibels: float | None) -> float:
    """Return a key that sorts unknown values last."""
    return float("inf") if decibels is None else decibels
