"""`export`: trained codes and scales into a copy of the user's graph.

Nothing in the file that no runtime reads.

Unused initializers, shapes of inner values and the stack traces that exporters leave on nodes go;
names of nodes and of the user's own values stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx
import onnx_ir as ir

from dfqonnx.core.quantization import Storage
from dfqonnx.core.quantization_plan import QuantizationParameters, QuantizationPlan
from dfqonnx.errors import InternalError
from dfqonnx.export.activations import insert_aliases, insert_quantizer
from dfqonnx.export.first_conv_padding import missing_channels, pad_codes, pad_weight
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.io_contract import restore
from dfqonnx.export.metadata import attach
from dfqonnx.export.opset import choose_opset
from dfqonnx.export.weights import check_weight, insert_bias, insert_weight, packs
from dfqonnx.graph.model import NormalizedModel


def tidy(model: ir.Model) -> None:
    """Strip `model` in place."""
    graph = model.graph
    ports = {*graph.inputs, *graph.outputs}
    for name in [n for n, v in graph.initializers.items() if not v.uses() and v not in ports]:
        del graph.initializers[name]
    for node in graph:
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
            if value not in ports:
                value.shape, value.type = None, None
    for value in (*graph.initializers.values(), *ports):
        value.metadata_props.clear()
    graph.metadata_props.clear()
    graph.doc_string = None
    model.functions.clear()


def export(
    model: NormalizedModel,
    sites: QuantizationPlan,
    qparams: QuantizationParameters,
    *,
    storage: Storage = "auto",
    metadata: Mapping[str, str] | None = None,
) -> ir.Model:
    """Return the low-bit QDQ model; `model` itself stays as it is.

    Args:
        model: the normalized float model.
        sites: where quantizers stand.
        qparams: codes, scales and zero points of every site.
        storage: `auto` packs weights of up to 4 bits as INT4 (opset 21); `int8` stores INT8 and
            takes opset 13 where the graph allows it.
        metadata: model properties to add, see `metadata.describe`.

    Raises:
        InternalError: sites and parameters do not fit each other or the graph.
    """
    _check_complete(model, sites, qparams)
    edited = model.ir.clone()
    surgery = GraphEditor(edited.graph)
    packed = any(packs(site, storage) for site in sites.weights)
    _insert_activations(surgery, sites, qparams, pack=packed)
    _insert_weights(surgery, sites, qparams, storage)
    restore(surgery, model.contract)
    tidy(edited)
    opset, edited.ir_version = choose_opset(edited, packed=packed)
    edited.opset_imports.clear()
    edited.opset_imports[""] = opset
    edited.producer_name = "dfqonnx"
    edited.producer_version = (metadata or {}).get("dfqonnx.version", "")
    attach(edited, model.source.metadata, metadata or {})
    return edited


def check(model: ir.Model) -> onnx.ModelProto:
    """Return `model` as a proto that passed ONNX's full check.

    Raises:
        InternalError: it did not.
    """
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InternalError(f"the exported model is not valid ONNX: {error}") from error
    return proto


def _check_complete(
    model: NormalizedModel, sites: QuantizationPlan, qparams: QuantizationParameters
) -> None:
    missing = [s.name for s in sites.activations if s.name not in qparams.activations]
    missing += [s.node for s in sites.weights if s.node not in qparams.weights]
    nodes = {node.name for node in model.ir.graph}
    missing += [s.node for s in sites.weights if s.node not in nodes]
    missing += [a.of for a in sites.shared if a.of not in qparams.activations]
    if missing:
        raise InternalError(f"sites without parameters or node: {missing}; please report it")


def _insert_activations(
    surgery: GraphEditor, sites: QuantizationPlan, qparams: QuantizationParameters, *, pack: bool
) -> None:
    """Quantizers at producers, then aliases, then the readings, which build on both."""
    values = {value.name or "": value for value in surgery.graph.inputs}
    values |= {value.name or "": value for node in surgery.graph for value in node.outputs}
    for site in sites.activations:
        if not site.consumers:
            insert_quantizer(surgery, site, qparams.activations[site.name], values)
    insert_aliases(surgery, sites.shared, qparams.activations, values, pack=pack)
    for site in sites.activations:
        if site.consumers:
            insert_quantizer(surgery, site, qparams.activations[site.name], values)


def _insert_weights(
    surgery: GraphEditor, sites: QuantizationPlan, qparams: QuantizationParameters, storage: Storage
) -> None:
    nodes = {node.name: node for node in surgery.graph if node.name}
    first = {site.name for site in sites.activations if site.role == "input"}
    for site in sites.weights:
        node, params = nodes[site.node], qparams.weights[site.node]
        check_weight(site, params, node)
        scale = qparams.activations[site.input].scale
        channels = missing_channels(node, params.codes.shape) if site.input in first else 0
        if channels and pad_codes(surgery, node, channels):
            params = replace(params, codes=pad_weight(params.codes, channels))
        insert_weight(surgery, site, params, node, pack=packs(site, storage))
        insert_bias(surgery, site, params, node, input_scale=scale)
