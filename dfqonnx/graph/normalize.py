"""From the user's graph to the one form that all other rooms rely on (listed in CONTRIBUTING).

`PASSES` is the whole of it: passes run in the order written there, and every one keeps what the
graph computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.checks import check_constants, check_value_sizes, list_fed_inputs
from dfqonnx.graph.load import Loaded, load
from dfqonnx.graph.model import UNSUPPORTED, Contract, NormalizedModel, SkippedRewrite, ValueInfo
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.bound_masks import bound_softmax_masks
from dfqonnx.graph.passes.constant_folding import fold_constants
from dfqonnx.graph.passes.conv_head_to_gemm import convert_conv_head_to_gemm
from dfqonnx.graph.passes.edit import HELD, STATISTICS, get_constant, get_node_name, get_shape
from dfqonnx.graph.passes.eliminate_noops import merge_reshapes, remove_identities
from dfqonnx.graph.passes.explicit_padding import fold_pads, make_pads_explicit
from dfqonnx.graph.passes.fold_affine import convert_affines, fold_affines
from dfqonnx.graph.passes.fold_batchnorm import (
    BATCHNORMS,
    convert_batchnorms,
    fold_batchnorms,
    record_batchnorms,
)
from dfqonnx.graph.passes.fold_scalars import fold_scalars, unify_numbers
from dfqonnx.graph.passes.global_pooling import convert_to_global_pooling
from dfqonnx.graph.passes.input_sizes import SIZES, choose_input_sizes
from dfqonnx.graph.passes.lift_batch_axis import lift_batch_axis
from dfqonnx.graph.passes.matmul_bias import fold_matmul_bias
from dfqonnx.graph.passes.matmul_to_gemm import convert_matmul_to_gemm
from dfqonnx.graph.passes.merge_clips import merge_clips
from dfqonnx.graph.passes.opset_upgrade import upgrade_opset
from dfqonnx.graph.passes.pass_result import Pass
from dfqonnx.graph.passes.pool_rounding import make_pool_rounding_explicit
from dfqonnx.graph.passes.recognize_activations import recognize_activations
from dfqonnx.graph.passes.recognize_layer_norm import recognize_layer_norm
from dfqonnx.graph.passes.to_float32 import to_float32
from dfqonnx.graph.passes.unshare_parameters import assign_unique_names, unshare_parameters
from dfqonnx.graph.trainable_region import select_training_outputs

PASSES: tuple[Pass | tuple[Pass, ...], ...] = (  # a tuple: again and again until nothing changes
    to_float32,
    fold_constants,
    bound_softmax_masks,
    remove_identities,
    recognize_activations,
    recognize_layer_norm,
    make_pads_explicit,
    fold_pads,
    make_pool_rounding_explicit,
    convert_matmul_to_gemm,
    fold_matmul_bias,
    fold_affines,
    record_batchnorms,
    (fold_batchnorms, fold_affines),
    convert_batchnorms,
    convert_affines,
    fold_affines,
    merge_clips,
    (fold_scalars,),
    unify_numbers,
    convert_to_global_pooling,
    convert_conv_head_to_gemm,
    merge_reshapes,
    unshare_parameters,
    assign_unique_names,
    fold_constants,
)


def open_model(
    path: Path,
    *,
    image_size: tuple[int, ...] | None = None,
    given: Mapping[str, NDArray[Any]] | None = None,
) -> NormalizedModel:
    """Load a file and bring it into normal form; see `load` and `normalize`."""
    return normalize(load(path, given=given), image_size=image_size)


def normalize(loaded: Loaded, *, image_size: tuple[int, ...] | None = None) -> NormalizedModel:
    """Bring a loaded model into normal form.

    Args:
        loaded: what `load` returned.
        image_size: height and width for an input that leaves them open (one number: both); None
            takes usual ones.
    """
    contract = _read_contract(loaded.proto)
    model = upgrade_opset(loaded.proto, loaded.external)
    for name in loaded.interface.live:
        model.graph.initializers[name].meta[HELD] = True
    if not loaded.interface.batch_axis:
        lift_batch_axis(model)
    open_axes = choose_input_sizes(model, image_size, fixed_batch=contract.batch).open_axes
    skipped = _run_passes(model)
    _check_layers(model)
    check_constants(model.graph)
    check_value_sizes(model.graph)
    _mark_fixed_rows(model.graph, contract)
    _mark_index_readers(model.graph)
    image, output = model.graph.inputs[0], str(model.graph.outputs[0].name)
    state, count = model.meta[BATCHNORMS]
    values = [value for node in model.graph for value in node.outputs]
    marked = [node for node in model.graph if UNSUPPORTED in node.meta]
    normalized = NormalizedModel(
        ir=model,
        source=loaded.source,
        contract=_correct_outputs(contract, model.graph),
        statistics={str(v.name): v.meta[STATISTICS] for v in values if STATISTICS in v.meta},
        batchnorm=state,
        batchnorm_nodes=count,
        input=str(image.name),
        input_shape=image.meta[SIZES].chosen,
        output=output,
        logits=output,
        unsupported={str(node.name): node.meta[UNSUPPORTED] for node in marked},
        open_axes=open_axes,
        interface=loaded.interface,
        skipped=skipped,
    )
    return select_training_outputs(normalized)


def _run_passes(model: ir.Model) -> tuple[SkippedRewrite, ...]:
    """Run all passes and return what they had to skip, and did not do in a later run either."""
    skipped: dict[str, list[tuple[ir.Node, SkippedRewrite]]] = {}

    def run(step: Pass) -> bool:
        name = step.__name__
        replaced = [  # by another pass, which had a second choice for the node
            (node, rewrite) for node, rewrite in skipped.get(name, ()) if node.graph is None
        ]
        result = step(model)
        skipped[name] = replaced + [
            (node, SkippedRewrite(get_node_name(node), node.op_type, name, reason))
            for node, reason in result.skipped
        ]
        return result.modified

    for entry in PASSES:
        if isinstance(entry, tuple):
            while any(run(step) for step in entry):
                pass
        else:
            run(entry)
    return tuple(rewrite for rewrites in skipped.values() for _, rewrite in rewrites)


def _read_contract(proto: onnx.ModelProto) -> Contract:
    inputs, outputs = list_fed_inputs(proto), proto.graph.output
    return Contract(tuple(map(_read_value_info, inputs)), tuple(map(_read_value_info, outputs)))


def _read_value_info(info: onnx.ValueInfoProto) -> ValueInfo:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return ValueInfo(info.name, tensor.elem_type, None)
    shape = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or None
        for d in tensor.shape.dim
    )
    return ValueInfo(info.name, tensor.elem_type, shape)


def _check_layers(model: ir.Model) -> None:
    """Check that at least one layer has a constant weight."""
    layers = [n for n in model.graph if has_trait(n.op_type, Trait.LAYER)]
    if not any(get_constant(n.inputs[1]) is not None for n in layers):
        reason = "its weight is computed, not a constant"
        offenses = [Offense(str(n.name), n.op_type, reason) for n in layers]
        offenses = offenses or [Offense("graph", "", "it has no Conv, Gemm or MatMul")]
        raise UnsupportedModel("this model has nothing to quantize:", offenses)


def _correct_outputs(contract: Contract, graph: ir.Graph) -> Contract:
    """Replace what a file declares of its outputs where the graph computes something else.

    Runtimes only warn of such a declaration; the exported file would not be valid with it.
    """
    outputs = []
    for output, value in zip(contract.outputs, graph.outputs, strict=True):
        computed, declared = get_shape(value), output.shape
        if computed is not None and declared is not None:
            if len(computed) != len(declared):
                declared = tuple(d if isinstance(d, int) else None for d in computed)
            declared = tuple(
                c if isinstance(c, int) and isinstance(d, int) else d
                for c, d in zip(computed, declared, strict=True)
            )
        outputs.append(replace(output, shape=declared))
    return replace(contract, outputs=tuple(outputs))


def _mark_fixed_rows(graph: ir.Graph, contract: Contract) -> None:
    """Mark nodes whose result stops growing with the batch: there the trained part ends.

    A file that claims to take any batch is refused.
    """
    growing = set(graph.inputs)
    for node in graph:
        if not any(i in growing for i in node.inputs):
            continue
        for value in node.outputs:
            shape = get_shape(value) if value.dtype == ir.DataType.FLOAT else None
            if not shape or not all(isinstance(d, int) for d in shape):
                growing.add(value)
                continue
            reason = f"its output {value.name!r} has {shape[0]} rows for any batch"
            node.meta[UNSUPPORTED] = reason
            if contract.batch is None:
                message = "this model works on one fixed number of images:"
                advice = "export it with a free batch axis"
                offense = Offense(str(node.name), node.op_type, reason, advice)
                raise UnsupportedModel(message, [offense])


def _mark_index_readers(graph: ir.Graph) -> None:
    """Mark nodes that compute with the places of maxima: those count all images of a batch.

    MaxUnpool puts values back to the places, in the same batch.
    """
    for node in graph:
        if node.op_type == "MaxPool":
            for reader in {r for value in node.outputs[1:] for r in value.consumers()}:
                if reader.op_type != "MaxUnpool" and UNSUPPORTED not in reader.meta:
                    reader.meta[UNSUPPORTED] = "the places of maxima count all images of a batch"
