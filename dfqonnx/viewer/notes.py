"""What a report knows of single nodes, as short texts that a viewer shows as node metadata."""

from __future__ import annotations

from dfqonnx.core.quantization_plan import QUANTIZER_PREFIX
from dfqonnx.report.number_format import format_decibels
from dfqonnx.report.report import Report

Notes = dict[str, dict[str, str]]


def student_notes(report: Report) -> Notes:
    """Return notes for the exported file: weighted nodes, quantizers, nodes left in float."""
    notes = teacher_notes(report)
    if report.layer_noise is not None:
        for activation in report.layer_noise.activations:
            notes[QUANTIZER_PREFIX + activation.quantizer] = _prefixed(
                bits=str(activation.bits),
                role=activation.role,
                sqnr=format_decibels(activation.sqnr_db),
                clipped=f"{100 * activation.values.clipped:.3g} %",
            )
    if report.audit is not None:
        for node in report.audit.float_nodes:
            notes.setdefault(node.name, {}).update(_prefixed(float_because=node.reason))
    return notes


def teacher_notes(report: Report) -> Notes:
    """Return notes for the float file: how its weighted nodes were quantized."""
    layers = () if report.layer_noise is None else report.layer_noise.layers
    return {
        layer.node: _prefixed(
            bits=f"weights {layer.weight_bits}, input {layer.input_bits}",
            sqnr_in_network=format_decibels(layer.in_network_sqnr_db),
            sqnr_isolated=format_decibels(layer.isolated_sqnr_db),
            clipped=f"{100 * layer.weight.clipped:.2f} %",
        )
        for layer in layers
    }


def student_badges(report: Report) -> Notes:
    """Return what stands on the nodes of the exported file: bits and noise, or `runs in float`."""
    badges = teacher_badges(report)
    for activation in () if report.layer_noise is None else report.layer_noise.activations:
        badges[QUANTIZER_PREFIX + activation.quantizer] = _known(
            bits=str(activation.bits), SQNR=format_decibels(activation.sqnr_db)
        )
    for node in () if report.audit is None else report.audit.float_nodes:
        badges.setdefault(node.name, {})["runs"] = "in float"
    return badges


def teacher_badges(report: Report) -> Notes:
    """Return what stands on the weighted nodes of the float file; a dozen letters are shown."""
    layers = () if report.layer_noise is None else report.layer_noise.layers
    return {
        layer.node: _known(
            bits=f"w{layer.weight_bits} a{layer.input_bits}",
            SQNR=format_decibels(layer.in_network_sqnr_db),
        )
        for layer in layers
    }


def _known(**notes: str) -> dict[str, str]:
    return {key: value for key, value in notes.items() if value}


def _prefixed(**notes: str) -> dict[str, str]:
    """Return the notes that are not empty, under the names that a viewer shows."""
    return {f"dfqonnx.{key}": value for key, value in _known(**notes).items()}
