"""From the user's graph to the one form that all other rooms rely on (listed in CONTRIBUTING).

Passes run in the order written here; every one keeps what the graph computes.
"""

from __future__ import annotations

from dataclasses import replace

import onnx
import onnx_ir as ir

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.checks import require_finite, require_measure
from dfqonnx.graph.load import Loaded
from dfqonnx.graph.model import UNSUPPORTED, Contract, NormalizedModel, ValueInfo
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.constant_folding import fold_constants
from dfqonnx.graph.passes.conv_head_to_gemm import convert_conv_head_to_gemm
from dfqonnx.graph.passes.edit import STATISTICS, constant, dims
from dfqonnx.graph.passes.eliminate_noops import merge_reshapes, remove_identities
from dfqonnx.graph.passes.explicit_padding import fold_pads, make_pads_explicit
from dfqonnx.graph.passes.fold_affine import convert_affines, fold_affines
from dfqonnx.graph.passes.fold_batchnorm import (
    batchnorm_state,
    convert_leftovers,
    fold_batchnorms,
    read_batchnorms,
)
from dfqonnx.graph.passes.global_pooling import convert_to_global_pooling
from dfqonnx.graph.passes.input_sizes import SIZES, choose_sizes
from dfqonnx.graph.passes.matmul_to_gemm import convert_matmul_to_gemm
from dfqonnx.graph.passes.merge_clips import merge_clips
from dfqonnx.graph.passes.opset_upgrade import upgrade_opset
from dfqonnx.graph.passes.to_float32 import to_float32
from dfqonnx.graph.passes.unshare_parameters import assign_unique_names, unshare_parameters
from dfqonnx.graph.trainable_region import select_training_outputs

_SHAPING = (remove_identities, make_pads_explicit, fold_pads, convert_matmul_to_gemm, fold_affines)
_FOLDING = (fold_batchnorms, fold_affines)
_FINISHING = (
    convert_leftovers,
    convert_affines,
    fold_affines,
    merge_clips,
    convert_to_global_pooling,
    convert_conv_head_to_gemm,
    merge_reshapes,
)


def normalize(loaded: Loaded, *, image_size: tuple[int, ...] | None = None) -> NormalizedModel:
    """Bring a loaded model into normal form.

    Args:
        loaded: what `load` returned.
        image_size: height and width for an input that leaves them open (one number: both); None
            takes usual ones.

    Raises:
        UnsupportedModel: shapes do not fit, or no layer has constant weights.
        UsageError: `image_size` does not fit the input.
    """
    contract = _contract(loaded.proto)
    model = upgrade_opset(loaded.proto, loaded.outside)
    to_float32(model)
    model.graph.sort()
    free = choose_sizes(model, image_size).free
    fold_constants(model, fixed_batch=contract.batch)
    for shaping in _SHAPING:
        shaping(model)
    state, count = batchnorm_state(model), read_batchnorms(model)
    while any(change(model) for change in _FOLDING):
        pass
    for finishing in _FINISHING:
        finishing(model)
    unshare_parameters(model)
    assign_unique_names(model)
    fold_constants(model, fixed_batch=contract.batch)
    _require_layers(model)
    require_finite(model.graph)
    require_measure(model.graph)
    _note_fixed_rows(model.graph, contract)
    image, output = model.graph.inputs[0], model.graph.outputs[0]
    found = NormalizedModel(
        ir=model,
        source=loaded.source,
        contract=_corrected(contract, model.graph),
        statistics={
            str(v.name): v.meta[STATISTICS]
            for n in model.graph
            for v in n.outputs
            if STATISTICS in v.meta
        },
        batchnorm=state,
        batchnorm_nodes=count,
        input=str(image.name),
        input_shape=image.meta[SIZES].chosen,
        output=str(output.name),
        logits=str(output.name),
        unsupported={
            str(n.name): n.meta[UNSUPPORTED] for n in model.graph if UNSUPPORTED in n.meta
        },
        free=free,
    )
    return select_training_outputs(found)


def _contract(proto: onnx.ModelProto) -> Contract:
    weights = {t.name for t in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    return Contract(tuple(map(_port, inputs)), tuple(map(_port, proto.graph.output)))


def _port(info: onnx.ValueInfoProto) -> ValueInfo:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return ValueInfo(info.name, tensor.elem_type, None)
    shape = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param or None
        for d in tensor.shape.dim
    )
    return ValueInfo(info.name, tensor.elem_type, shape)


def _require_layers(model: ir.Model) -> None:
    nodes = list(model.graph)
    layers = [n for n in nodes if has_trait(n.op_type, Trait.LAYER)]
    if not any(constant(n.inputs[1]) is not None for n in layers):
        raise UnsupportedModel(
            "this model has nothing to quantize:",
            [
                Offense(str(n.name), n.op_type, "its weight is computed, not a constant")
                for n in layers
            ]
            or [Offense("graph", "", "it has no Conv, Gemm or MatMul")],
        )


def _corrected(contract: Contract, graph: ir.Graph) -> Contract:
    """Replace what a file declares of its outputs where the graph computes something else.

    Runtimes only warn of such a declaration; the exported file would not be valid with it.
    """
    outputs = []
    for port, value in zip(contract.outputs, graph.outputs, strict=True):
        computed, declared = dims(value), port.shape
        if computed is not None and declared is not None:
            if len(computed) != len(declared):
                declared = tuple(d if isinstance(d, int) else None for d in computed)
            pairs = zip(computed, declared, strict=True)
            wrong = [isinstance(c, int) and isinstance(d, int) and c != d for c, d in pairs]
            declared = tuple(
                c if w else d for c, d, w in zip(computed, declared, wrong, strict=True)
            )
        outputs.append(replace(port, shape=declared))
    return replace(contract, outputs=tuple(outputs))


def _note_fixed_rows(graph: ir.Graph, contract: Contract) -> None:
    """Where a result stops growing with the batch, the trained part ends.

    Raises:
        UnsupportedModel: in a file that claims to take any batch.
    """
    growing = set(graph.inputs)
    for node in graph:
        if not any(i in growing for i in node.inputs):
            continue
        outputs = [(o, dims(o)) for o in node.outputs if o.dtype == ir.DataType.FLOAT]
        fixed = [(o, shape) for o, shape in outputs if shape and _all_fixed(shape)]
        growing.update(o for o in node.outputs if all(o is not value for value, _ in fixed))
        for value, shape in fixed:
            reason = f"its output {value.name!r} has {shape[0]} rows for any batch"
            node.meta[UNSUPPORTED] = reason
            if contract.batch is None:
                offense = Offense(
                    str(node.name), node.op_type, reason, "export it with a free batch axis"
                )
                message = "this model works on one fixed number of images:"
                raise UnsupportedModel(message, [offense])


def _all_fixed(shape: tuple[int | str | None, ...]) -> bool:
    return all(isinstance(d, int) for d in shape)
