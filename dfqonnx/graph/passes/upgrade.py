"""Opset upgrade to 21 with the adapters of the onnx package; newer files stay as they are.

Local functions are inlined first, initializers listed as graph inputs become plain initializers,
stale value types are forgotten and Constant nodes become initializers.

Upsample and the first Resize (opset 10) map  x_in = floor(x_out / scale); the adapters leave the
newer default, half pixels, which is another function for every mode but doubling by nearest.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import inliner, shape_inference, version_converter
from onnx_ir.passes import common

from dfqonnx.errors import Offence, UnsupportedModel

OPSET = 21
_HALF_PIXELS = 11  # first opset whose Resize has other coordinates than Upsample
_CONVERSION_ERRORS = (
    RuntimeError,
    version_converter.ConvertError,
    shape_inference.InferenceError,
)


def upgrade(proto: onnx.ModelProto) -> ir.Model:
    """Return `proto` as a graph of opset 21 (or its own, when newer).

    Raises:
        UnsupportedModel: the converter has no adapter for some operator.
    """
    metadata = {p.key: p.value for p in proto.metadata_props}
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
                [Offence("graph", "", reason, f"export again at opset {OPSET} or near")],
            ) from None
    model = ir.from_proto(proto)
    if version < _HALF_PIXELS:
        _resize_as_before(model)
    model.metadata_props.update(metadata)
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


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedModel(
            "the local functions of this model cannot be inlined:",
            [Offence("graph", "", str(error).split("failed:")[-1].strip(), "export it again")],
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
