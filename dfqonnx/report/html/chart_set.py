"""Which charts a page gets. Without matplotlib it gets none, and says so."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dfqonnx.core.layer_analysis import CodeOccupancy
from dfqonnx.evaluation.drop_estimate.regression import Basis, shipped_predictions
from dfqonnx.report.html import charts
from dfqonnx.report.html import svg as drawing
from dfqonnx.report.html import tables as rows
from dfqonnx.report.report import Report

MOST = 24  # histograms of a kind; the noisiest sites come first


@dataclass(frozen=True)
class GridChart:
    """A histogram with its caption.

    Attributes:
        name: of the node or site.
        target: anchor of the node; empty for a tensor.
        bits: of the grid.
        sqnr_db: of the node's output or of the tensor.
        found: the values.
        svg: the drawing.
    """

    name: str
    target: str
    bits: int
    sqnr_db: float | None
    found: CodeOccupancy
    svg: str


@dataclass(frozen=True)
class Plots:
    """Every chart as SVG; empty strings and tuples where there is nothing to draw.

    Attributes:
        able: whether matplotlib is there.
        left_out: how many histograms are only in report.json.
    """

    able: bool
    intervals: str = ""
    estimate: str = ""
    noise: str = ""
    training: str = ""
    weights: tuple[GridChart, ...] = ()
    activations: tuple[GridChart, ...] = ()
    left_out: int = 0


def draw(report: Report, places: Sequence[rows.Node]) -> Plots:
    """Return the charts of a report."""
    if importlib.util.find_spec("matplotlib") is None:
        return Plots(able=False)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    from matplotlib import rc_context

    with rc_context(drawing.settings()):  # type: ignore[arg-type]
        weights, activations = _weights(places), _activations(report)
        layers = [node for node in places if node.layer is not None]
        shares = rows.whiskers(report)
        history = () if report.training is None else report.training.history
        return Plots(
            able=True,
            intervals=charts.intervals(shares) if shares else "",
            estimate=_estimate(report),
            noise=charts.noise(
                [node.layer for node in layers if node.layer is not None],
                [f"#n{node.number}" for node in layers],
            )
            if layers
            else "",
            training=charts.training(history) if len(history) > 1 else "",
            weights=weights,
            activations=activations,
            left_out=_left_out(report),
        )


def _estimate(report: Report) -> str:
    found = report.estimate
    if found is None or found.value is None:
        return ""
    basis: Basis = "real" if "real" in found.basis else "fixed"
    true = None if report.drop is None else report.drop.points.value
    return charts.calibration(shipped_predictions(basis), found, true)


def _weights(places: Sequence[rows.Node]) -> tuple[GridChart, ...]:
    found = [(node, node.layer) for node in places if node.layer is not None]
    worst = sorted(found, key=lambda pair: _noise(pair[1].own_db))[:MOST]
    return tuple(
        GridChart(
            node.name,
            f"#n{node.number}",
            layer.bits,
            layer.own_db,
            layer.weight,
            charts.values(layer.weight),
        )
        for node, layer in worst
    )


def _activations(report: Report) -> tuple[GridChart, ...]:
    found = () if report.portrait is None else report.portrait.activations
    worst = sorted(found, key=lambda site: (site.bits, _noise(site.sqnr_db)))[:MOST]
    return tuple(
        GridChart(site.site, "", site.bits, site.sqnr_db, site.values, charts.values(site.values))
        for site in worst
    )


def _noise(decibels: float | None) -> float:
    return float("inf") if decibels is None else decibels


def _left_out(report: Report) -> int:
    if report.portrait is None:
        return 0
    kinds = report.portrait.layers, report.portrait.activations
    return sum(max(0, len(kind) - MOST) for kind in kinds)
