"""Opset upgrade to 21 with the adapters of the onnx package; newer files stay as they are.

Local functions are inlined first, initializers listed as graph inputs become plain initializers,
stale value types are forgotten and Constant nodes become initializers.

Upsample and the first Resize (opset 10) map  x_in = floor(x_out / scale); the adapters leave the
newer default, half pixels, which is another function for every mode but doubling by nearest.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx import checker, inliner, shape_inference, version_converter
from onnx_ir.passes import common

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.tensor_checks import without

OPSET = 21
_HALF_PIXELS = 11  # first opset whose Resize has other coordinates than Upsample
_CONVERSION_ERRORS = (
    RuntimeError,
    checker.ValidationError,
    version_converter.ConvertError,
    shape_inference.InferenceError,
)


def upgrade_opset(
    proto: onnx.ModelProto, outside: Mapping[str, ir.ExternalTensor] | None = None
) -> ir.Model:
    """Return `proto` as a graph of opset 21 (or its own, when newer).

    Args:
        proto: the model.
        outside: initializers whose data are too much for a protobuf message.

    Raises:
        UnsupportedModel: the converter has no adapter for some operator.
    """
    outside = outside or {}
    metadata = {p.key: p.value for p in proto.metadata_props}
    proto = without(proto, outside)
    if proto.functions:
        proto = _inlined(proto)
    version = next(o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"})
    if version < OPSET:
        try:
            proto = version_converter.convert_version(proto, OPSET)
        except _CONVERSION_ERRORS as error:
            reason = str(error).split("Assertion")[-1].strip(" :`")
            raise UnsupportedModel(
                f"this model cannot be brought from opset {version} to {OPSET}:",
                [Offense("graph", "", reason, f"export again at opset {OPSET} or near")],
            ) from None
    model = ir.from_proto(proto)
    if version < _HALF_PIXELS:
        _resize_as_before(model)
    model.metadata_props.update(metadata)
    for value in [i for i in model.graph.inputs if i.name in outside]:
        model.graph.inputs.remove(value)
        value.const_value = _mapped(outside[str(value.name)])
        model.graph.register_initializer(value)
    weights = [i for i in model.graph.inputs if i.name in model.graph.initializers]
    for value in weights:
        model.graph.inputs.remove(value)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    _own_domain_only(model)
    return model


def _mapped(tensor: ir.ExternalTensor) -> ir.LazyTensor:
    """Return a tensor that is written as data, not as a reference to the user's file."""
    return ir.LazyTensor(
        lambda: ir.tensor(tensor.numpy()),
        dtype=tensor.dtype,
        shape=tensor.shape,
        name=tensor.name,
    )


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError, checker.ValidationError) as error:
        raise UnsupportedModel(
            "the local functions of this model cannot be inlined:",
            [Offense("graph", "", str(error).split("failed:")[-1].strip(), "export it again")],
        ) from None


def _resize_as_before(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type == "Resize":
            for name, value in (
                ("coordinate_transformation_mode", "asymmetric"),
                ("nearest_mode", "floor"),
            ):
                node.attributes[name] = ir.AttrString(name, value)


def _own_domain_only(model: ir.Model) -> None:
    for domain in [d for d in model.graph.opset_imports if d]:
        del model.graph.opset_imports[domain]
    for node in model.graph:
        node.domain = ""
    model.ir_version = max(model.ir_version, 10)
