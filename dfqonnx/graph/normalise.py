"""From the user's graph to the one form that all other rooms rely on (listed in CONTRIBUTING).

Passes run in the order written here; every one keeps what the graph computes.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from dfqonnx.errors import Offence, UnsupportedModel
from dfqonnx.graph.load import Loaded
from dfqonnx.graph.model import BATCH, Contract, Model, Port
from dfqonnx.graph.passes.affine import convert_affines, fold_affines
from dfqonnx.graph.passes.batchnorm import (
    batchnorm_state,
    convert_leftovers,
    fold_batchnorms,
    read_batchnorms,
)
from dfqonnx.graph.passes.clip import simplify_clamps
from dfqonnx.graph.passes.edit import STATISTICS, constant, dims
from dfqonnx.graph.passes.fold import fold
from dfqonnx.graph.passes.gemm import to_gemm
from dfqonnx.graph.passes.head import convert_head
from dfqonnx.graph.passes.identity import remove_identities
from dfqonnx.graph.passes.own import name_everything, own_parameters
from dfqonnx.graph.passes.pooling import to_global_pools
from dfqonnx.graph.passes.reshapes import RESHAPES, merge_reshapes
from dfqonnx.graph.passes.upgrade import upgrade
from dfqonnx.graph.passes.windows import explicit_pads, fold_pads

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
_SHAPING = (remove_identities, explicit_pads, fold_pads, to_gemm, fold_affines)
_FOLDING = (fold_batchnorms, fold_affines)
_FINISHING = (
    convert_leftovers,
    convert_affines,
    fold_affines,
    simplify_clamps,
    to_global_pools,
    convert_head,
    merge_reshapes,
)


def normalise(loaded: Loaded, *, image_size: tuple[int, ...] | None = None) -> Model:
    """Bring a loaded model into normal form.

    Args:
        loaded: what `load` returned.
        image_size: sizes for axes (other than the batch) that the file leaves free, in order.

    Raises:
        UnsupportedModel: shapes do not fit, axes are free, or no layer has constant weights.
    """
    contract = _contract(loaded.proto)
    model = upgrade(loaded.proto)
    _free_batch(model, image_size)
    model.graph.sort()
    fold(model, fixed_batch=contract.batch)
    for shaping in _SHAPING:
        shaping(model)
    state, count = batchnorm_state(model), read_batchnorms(model)
    while any(change(model) for change in _FOLDING):
        pass
    for finishing in _FINISHING:
        finishing(model)
    own_parameters(model)
    name_everything(model)
    fold(model)
    _require_layers(model)
    _require_batch(model.graph.outputs[0])
    image, output = model.graph.inputs[0], model.graph.outputs[0]
    shape = dims(image)
    assert shape is not None
    return Model(
        ir=model,
        source=loaded.source,
        contract=contract,
        statistics={
            str(v.name): v.meta[STATISTICS]
            for n in model.graph
            for v in n.outputs
            if STATISTICS in v.meta
        },
        batchnorm=state,
        batchnorm_nodes=count,
        input=str(image.name),
        input_shape=tuple(int(d) for d in shape[1:] if isinstance(d, int)),
        output=str(output.name),
        logits=str(_logits(output).name),
    )


def _contract(proto: onnx.ModelProto) -> Contract:
    weights = {t.name for t in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    return Contract(tuple(map(_port, inputs)), tuple(map(_port, proto.graph.output)))


def _port(info: onnx.ValueInfoProto) -> Port:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return Port(info.name, tensor.elem_type, None)
    shape = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim
    )
    return Port(info.name, tensor.elem_type, shape)


def _free_batch(model: ir.Model, image_size: tuple[int, ...] | None) -> None:
    """Name the batch axis and fill other free axes from `image_size`."""
    image = model.graph.inputs[0]
    shape = dims(image)
    assert shape is not None
    sizes = list(image_size or ())
    known: list[int | str] = [BATCH]
    for axis, size in enumerate(shape[1:], start=1):
        if isinstance(size, int) and size > 0:
            known.append(size)
        elif sizes:
            known.append(sizes.pop(0))
        else:
            raise UnsupportedModel(
                "this model leaves its image size open:",
                [
                    Offence(
                        str(image.name),
                        "input",
                        f"axis {axis} of {list(shape)} is free",
                        "export it with the image size that it is used with",
                    )
                ],
            )
    image.shape = ir.Shape(known)
    for output in model.graph.outputs:
        output.shape = None


def _require_layers(model: ir.Model) -> None:
    nodes = list(model.graph)
    layers = [n for n in nodes if n.op_type in WEIGHTED]
    if not any(constant(n.inputs[1]) is not None for n in layers):
        raise UnsupportedModel(
            "this model has nothing to quantize:",
            [
                Offence(str(n.name), n.op_type, "its weight is computed, not a constant")
                for n in layers
            ]
            or [Offence("graph", "", "it has no Conv, Gemm or MatMul")],
        )


def _require_batch(output: ir.Value) -> None:
    """Refuse a graph whose result does not grow with the batch."""
    shape, node = dims(output), output.producer()
    if shape and isinstance(shape[0], int) and node is not None:
        raise UnsupportedModel(
            "this model works on one fixed number of images:",
            [
                Offence(
                    str(node.name),
                    node.op_type,
                    f"its output {output.name!r} has {shape[0]} rows for any batch",
                    "export it with a free batch axis",
                )
            ],
        )


def _logits(output: ir.Value) -> ir.Value:
    """Return the input of a final Softmax, reshapes in between skipped; else the output."""
    value = output
    while (node := value.producer()) is not None and node.inputs[0] is not None:
        if node.op_type in {"Softmax", "LogSoftmax"}:
            return node.inputs[0]
        if node.op_type not in RESHAPES:
            break
        value = node.inputs[0]
    return output
