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
from dfqonnx.graph.tensor_checks import strip_initializers

OPSET = 21
STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_HALF_PIXELS = 11  # first opset whose Resize has other coordinates than Upsample
_CONVERSION_ERRORS = (
    RuntimeError,
    checker.ValidationError,
    version_converter.ConvertError,
    shape_inference.InferenceError,
)


def get_opset(proto: onnx.ModelProto) -> int:
    """Return the version of the ai.onnx operators; 0 where the file names none."""
    return next((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), 0)


def upgrade_opset(
    proto: onnx.ModelProto, external: Mapping[str, ir.ExternalTensor] | None = None
) -> ir.Model:
    """Return `proto` as a graph of opset 21 (or its own, when newer), its nodes in order.

    `external` has the initializers whose data are too much for a protobuf message.
    """
    external = external or {}
    metadata = {p.key: p.value for p in proto.metadata_props}
    proto = strip_initializers(proto, external)
    if proto.functions:
        proto = _inline_functions(proto)
    version = get_opset(proto)
    if version < OPSET:
        try:
            proto = version_converter.convert_version(proto, OPSET)
        except _CONVERSION_ERRORS as error:
            message = f"this model cannot be brought from opset {version} to {OPSET}:"
            reason = str(error).split("Assertion")[-1].strip(" :`")
            offense = Offense("graph", "", reason, f"export again at opset {OPSET} or near")
            raise UnsupportedModel(message, [offense]) from None
    model = ir.from_proto(proto)
    if version < _HALF_PIXELS:
        _keep_resize_coordinates(model)
    model.metadata_props.update(metadata)
    _restore_initializers(model, external)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    _remove_other_domains(model)
    model.graph.sort()
    return model


def _restore_initializers(model: ir.Model, external: Mapping[str, ir.ExternalTensor]) -> None:
    """Turn the inputs that are initializers, in the file or outside of it, into initializers."""
    for value in list(model.graph.inputs):
        if value.name in external:
            model.graph.inputs.remove(value)
            value.const_value = _map_tensor(external[str(value.name)])
            model.graph.register_initializer(value)
    for value in [i for i in model.graph.inputs if i.name in model.graph.initializers]:
        model.graph.inputs.remove(value)


def _map_tensor(tensor: ir.ExternalTensor) -> ir.LazyTensor:
    """Return a tensor that is written as data, not as a reference to the user's file."""
    kind, shape, name = tensor.dtype, tensor.shape, tensor.name
    return ir.LazyTensor(lambda: ir.tensor(tensor.numpy()), dtype=kind, shape=shape, name=name)


def _inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError, checker.ValidationError) as error:
        message = "the local functions of this model cannot be inlined:"
        reason = str(error).split("failed:")[-1].strip()
        offense = Offense("graph", "", reason, "export it again")
        raise UnsupportedModel(message, [offense]) from None


def _keep_resize_coordinates(model: ir.Model) -> None:
    kept = (("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor"))
    for node in model.graph:
        if node.op_type == "Resize":
            node.attributes.update({name: ir.AttrString(name, value) for name, value in kept})


def _remove_other_domains(model: ir.Model) -> None:
    for domain in [d for d in model.graph.opset_imports if d]:
        del model.graph.opset_imports[domain]
    for node in model.graph:
        node.domain = ""
    model.ir_version = max(model.ir_version, 10)
