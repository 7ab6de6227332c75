"""What a report knows of single nodes, as short texts: metadata for a viewer."""

from __future__ import annotations

from dfqonnx.core.layer_analysis import ActivationNoise, WeightedLayerNoise
from dfqonnx.core.quantization_plan import QUANTIZER_PREFIX
from dfqonnx.report.report import Report

Notes = dict[str, dict[str, str]]


def student_notes(report: Report) -> Notes:
    """Return notes for the exported file: weighted nodes, quantizers, nodes left in float."""
    notes = teacher_notes(report)
    if report.portrait is not None:
        for site in report.portrait.activations:
            notes[QUANTIZER_PREFIX + site.site] = _quantizer(site)
    if report.audit is not None:
        for node in report.audit.float_nodes:
            notes.setdefault(node.name, {})["dfqonnx.float_because"] = node.reason
    return notes


def teacher_notes(report: Report) -> Notes:
    """Return notes for the float file: what became of its weighted nodes."""
    layers = () if report.portrait is None else report.portrait.layers
    return {layer.node: _layer(layer) for layer in layers}


def _layer(layer: WeightedLayerNoise) -> dict[str, str]:
    return _known(
        {
            "dfqonnx.bits": f"weights {layer.bits}, input {layer.input_bits}",
            "dfqonnx.sqnr": _decibels(layer.sqnr_db),
            "dfqonnx.alone": _decibels(layer.own_db),
            "dfqonnx.clipped": f"{100 * layer.weight.clipped:.2f} %",
        }
    )


def _quantizer(site: ActivationNoise) -> dict[str, str]:
    return _known(
        {
            "dfqonnx.bits": str(site.bits),
            "dfqonnx.role": site.role,
            "dfqonnx.sqnr": _decibels(site.sqnr_db),
            "dfqonnx.clipped": f"{100 * site.values.clipped:.3g} %",
        }
    )


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"


def _known(notes: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in notes.items() if value}
