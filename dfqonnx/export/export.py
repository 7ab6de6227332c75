"""`export`: trained codes and scales into a copy of the user's graph, in the form of its target.

Nothing stays in the file that no runtime reads: unused initializers, shapes of inner values and the
stack traces that exporters leave on nodes go; names of nodes and of the user's own values stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx
import onnx_ir as ir

from dfqonnx.core.quantization import Storage
from dfqonnx.core.quantization_plan import QuantizationParameters, QuantizationPlan
from dfqonnx.errors import InternalError
from dfqonnx.export.activations import insert_quantizer, insert_shared_quantizers
from dfqonnx.export.first_conv_padding import missing_channels, pad_codes, pad_weight
from dfqonnx.export.graph_editor import GraphEditor
from dfqonnx.export.hard_swish import write_hard_swishes
from dfqonnx.export.io_contract import restore
from dfqonnx.export.metadata import attach
from dfqonnx.export.narrow_stem import AddedChannels, add_channels, find_narrow_stem
from dfqonnx.export.number_operands import quantize_numbers
from dfqonnx.export.opset import choose_opset
from dfqonnx.export.separation import separate_activations, separate_nodes, separate_results
from dfqonnx.export.signed_comparisons import compare_reals
from dfqonnx.export.weights import check_weight, insert_bias, insert_weight
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.targets.profile import TARGETS, Packing


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
    plan: QuantizationPlan,
    parameters: QuantizationParameters,
    *,
    storage: Storage = "auto",
    metadata: Mapping[str, str] | None = None,
) -> ir.Model:
    """Return the low-bit QDQ model for the target of `plan`; `model` itself stays as it is.

    `storage` is `auto`, which packs narrow weights where the target can, or `int8`, which does not,
    and so takes an older opset where the graph allows it. `metadata` are properties to add.

    Raises:
        InternalError: plan and parameters do not fit each other or the graph.
        UnsupportedModel: the target's opsets do not hold an operator.
    """
    _check_complete(model, plan, parameters)
    target = TARGETS[plan.target]
    edited = model.ir.clone()
    editor = GraphEditor(edited.graph, target)
    added = find_narrow_stem(edited.graph, plan, parameters, target)
    packings = [target.packing_of(weight.grid, storage) for weight in plan.weights]
    newest = max(filter(None, packings), key=lambda packing: packing.opset, default=None)
    _insert_activations(editor, plan, parameters, packing=newest)
    _insert_weights(editor, plan, parameters, storage, added=added)
    write_hard_swishes(editor, plan, parameters)
    compare_reals(editor)
    quantize_numbers(editor, plan)
    separate_nodes(editor, plan.isolated)
    separate_activations(editor, [weight.node for weight in plan.weights])
    separate_results(editor)
    restore(editor, model.contract)
    tidy(edited)
    version = choose_opset(edited, target, least=0 if newest is None else newest.opset)
    edited.ir_version = version.ir_version
    edited.opset_imports.clear()
    edited.opset_imports[""] = version.opset
    edited.producer_name = "dfqonnx"
    edited.producer_version = (metadata or {}).get("dfqonnx.version", "")
    attach(edited, model.source.metadata, metadata or {})
    return edited


def check(model: ir.Model) -> onnx.ModelProto:
    """Return `model` as a proto that passed ONNX's full check; else raise an InternalError."""
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InternalError(f"the exported model is not valid ONNX: {error}") from error
    return proto


def _check_complete(
    model: NormalizedModel, plan: QuantizationPlan, parameters: QuantizationParameters
) -> None:
    activations = {each.name for each in plan.activations} | {each.of for each in plan.shared}
    weights = {each.node for each in plan.weights}
    missing = (activations - parameters.activations.keys()) | (weights - parameters.weights.keys())
    missing |= weights - {node.name for node in model.ir.graph}
    if missing:
        names = ", ".join(sorted(missing))
        raise InternalError(f"quantizers without parameters or node: {names}; please report it")


def _insert_activations(
    editor: GraphEditor,
    plan: QuantizationPlan,
    parameters: QuantizationParameters,
    *,
    packing: Packing | None,
) -> None:
    """Insert quantizers at producers, then shared ones, then requantizers, which build on both."""
    known = parameters.activations
    for quantizer in plan.activations:
        if not quantizer.consumers:
            insert_quantizer(editor, quantizer, known[quantizer.name])
    insert_shared_quantizers(editor, plan, known, packing=packing)
    for quantizer in plan.activations:
        if quantizer.consumers:
            insert_quantizer(editor, quantizer, known[quantizer.name])


def _insert_weights(
    editor: GraphEditor,
    plan: QuantizationPlan,
    parameters: QuantizationParameters,
    storage: Storage,
    *,
    added: Mapping[str, AddedChannels],
) -> None:
    target, nodes = editor.target, {node.name: node for node in editor.graph if node.name}
    first = plan.narrow_inputs()
    for weight in plan.weights:
        node, params = nodes[weight.node], parameters.weights[weight.node]
        check_weight(weight, params, node)
        zero_point = weight.grid.zero_point
        if weight.node in added:
            params = add_channels(node, params, added[weight.node], zero_point)
        padding = target.first_conv_padding if weight.input in first else None
        channels = missing_channels(node, params.codes.shape, padding)
        if channels and pad_codes(editor, node, channels):
            params = replace(params, codes=pad_weight(params.codes, channels, zero_point))
        packing = target.packing_of(weight.grid, storage)
        insert_weight(editor, weight, params, node, packing=packing)
        input_scale = parameters.activations[weight.input].scale
        insert_bias(editor, weight, params, node, input_scale=input_scale)
