"""What is refused before any work is done, each reason tied to its node.

Before normalization, on the file's own message: operators, versions and inputs that nothing here
can handle (`find_offenses`). After it, on the graph:

constants      NaN and infinity come from training that diverged or from a damaged file; beyond 1e18
               the squares that every error measure is made of leave float32. Bounds of a Clip and
               fillings of masks may be infinite: only what enters sums and products is checked.
value sizes    A value of more than 2^30 numbers for one image (4 GB in float32) is a wrong shape,
               or an image size that no machine trains on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import get_constant, get_input, get_shape
from dfqonnx.graph.passes.opset_upgrade import STANDARD_DOMAINS, get_opset

MIN_OPSET = 7
MAX_INPUT_NUMBERS = 2**31
MAX_VALUE_NUMBERS = 2**30  # for one image
MAX_CONSTANT = 1e18
_RUNTIME_QUANTIZED = ("QLinear", "QGemm")  # how ONNX Runtime names its own quantized operators
_STATIC = (
    "export with a fixed image size and by tracing (torch.onnx.export without scripting), or let a"
    " simplifier (onnxsim) decide the branch"
)
_EVALUATION = "export in evaluation mode: model.eval() in PyTorch, training=False in Keras"
_DOMAIN_ADVICE = {
    "com.microsoft": "ONNX Runtime wrote them when it optimized: take the file from before that",
    "org.pytorch.aten": "export without ATEN fallback, at a newer opset",
    "ai.onnx.ml": "leave the scikit-learn part out of the export",
}
_IMAGE_TYPES = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "UINT8"})


def find_offenses(proto: onnx.ModelProto) -> tuple[Offense, ...]:
    """Return every reason why `proto` cannot be quantized; empty when it can be tried."""
    version = get_opset(proto)
    found = [*_check_version(version), *_check_input(proto)]
    local = {(f.domain, f.name) for f in proto.functions}
    nodes = [*proto.graph.node, *(n for f in proto.functions for n in f.node)]
    stored = {t.name for t in proto.graph.initializer}
    for index, node in enumerate(nodes):
        unpacks = node.op_type == "DequantizeLinear" and stored.issuperset(node.input)
        if (node.domain, node.op_type) not in local and not unpacks:  # weights kept as integers
            found += _check_node(node, index, version)
    if not any(has_trait(n.op_type, Trait.LAYER) for n in nodes) and not found:
        reason, advice = "it has no Conv, Gemm or MatMul", "there is nothing to quantize"
        found.append(Offense("graph", "", reason, advice))
    return tuple(found)


def list_fed_inputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the graph inputs that are no initializers."""
    weights = {t.name for t in proto.graph.initializer}
    return [i for i in proto.graph.input if i.name not in weights]


def _check_version(version: int) -> Iterator[Offense]:
    newest = defs.onnx_opset_version()
    if version < MIN_OPSET:
        reason = f"opset {version} is older than {MIN_OPSET}"
        yield Offense("graph", "", reason, "export at opset 13 or later")
    if version > newest:
        reason = f"opset {version} is newer than the installed onnx package knows ({newest})"
        yield Offense("graph", "", reason, "upgrade onnx, or export at opset 21")


def _check_input(proto: onnx.ModelProto) -> Iterator[Offense]:
    inputs = list_fed_inputs(proto)
    if len(inputs) != 1:
        return  # `graph/interface` says why
    name, kind = inputs[0].name, inputs[0].type
    if not kind.HasField("tensor_type"):
        yield Offense(name, "input", "it is not a tensor")
        return
    tensor = kind.tensor_type
    type_name = name_type(tensor.elem_type)
    if type_name not in _IMAGE_TYPES:
        reason = f"its type is {type_name}, a real one or UINT8 is expected"
        yield Offense(name, "input", reason, "export in float32")
    sizes = tensor.shape.dim
    if not tensor.HasField("shape") or not 2 <= len(sizes) <= 5:
        reason = f"its shape has {len(sizes)} dimensions"
        yield Offense(name, "input", reason, "declare it as batch x channels x height x width")
    elif math.prod(max(d.dim_value, 1) for d in sizes) > MAX_INPUT_NUMBERS:
        shape = " x ".join(str(d.dim_value or d.dim_param or "?") for d in sizes)
        reason = f"its shape {shape} is more than any machine holds"
        advice = "export with the image and batch size that it is used with"
        yield Offense(name, "input", reason, advice)


def name_type(number: int) -> str:
    """Return ONNX's name of a type of tensors, or its number where ONNX knows none."""
    known = number in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(number)) if known else f"type {number}"


def _check_node(node: onnx.NodeProto, index: int, version: int) -> Iterator[Offense]:
    output = repr(node.output[0]) if node.output else "none"
    name, op = node.name or f"node {index} with output {output}", node.op_type
    if has_trait(op, Trait.CONTROL_FLOW):
        yield Offense(name, op, "control flow cannot be quantized", _STATIC)
    elif has_trait(op, Trait.QUANTIZED) or op.startswith(_RUNTIME_QUANTIZED):
        advice = "start from the float model that it was made from"
        yield Offense(name, op, "the model is already quantized", advice)
    elif node.domain not in STANDARD_DOMAINS:
        advice = _DOMAIN_ADVICE.get(node.domain, "export with standard ai.onnx operators")
        yield Offense(name, op, f"operators of domain {node.domain!r} are not known", advice)
    elif version in range(1, defs.onnx_opset_version() + 1) and not defs.has(
        op, max_inclusive_version=version
    ):
        reason = f"opset {version} of ONNX has no such operator"
        yield Offense(name, op, reason, "export again with a current exporter")
    elif op == "BatchNormalization" and _is_in_training_mode(node):
        yield Offense(name, op, "it is in training mode", _EVALUATION)


def _is_in_training_mode(node: onnx.NodeProto) -> bool:
    mode = any(a.name == "training_mode" and a.i == 1 for a in node.attribute)
    return mode or sum(1 for o in node.output if o) > 1


def check_constants(graph: ir.Graph) -> None:
    """Refuse constants that are not finite, or huge, and biases of the wrong length."""
    offenses = [
        offense for node in graph for offense in (*_check_finite(node), *_check_bias_shape(node))
    ]
    if offenses:
        raise UnsupportedModel("this model holds constants that cannot be computed with:", offenses)


def check_value_sizes(graph: ir.Graph) -> None:
    """Refuse computed values that are too large to be held, and layers that compute nothing."""
    offenses: list[Offense] = []
    for node in graph:
        offenses += _check_empty(node)
        for value in node.outputs:
            shape = get_shape(value) or ()
            if math.prod(d for d in shape if isinstance(d, int)) > MAX_VALUE_NUMBERS:
                sizes = " x ".join(map(str, shape))
                reason = f"its output {value.name!r} is {sizes}, over 4 GB for a single image"
                advice = "export the model with the image size that it is used with"
                offenses.append(Offense(str(node.name), node.op_type, reason, advice))
    if offenses:
        raise UnsupportedModel("this model has values that cannot be trained:", offenses)


def _check_empty(node: ir.Node) -> Iterator[Offense]:
    """A layer without channels, classes or pixels computes nothing; its file is damaged."""
    if not has_trait(node.op_type, Trait.LAYER):
        return
    for value in (*node.inputs, *node.outputs):
        shape = None if value is None else get_shape(value)
        if value is not None and shape is not None and 0 in shape:
            sizes = " x ".join(map(str, shape))
            reason = f"{value.name!r} has the shape {sizes}: there is nothing in it"
            yield Offense(str(node.name), node.op_type, reason, "export the model again")
            return


def _check_finite(node: ir.Node) -> Iterator[Offense]:
    if has_trait(node.op_type, Trait.MAY_READ_INFINITY):
        return
    for value in node.inputs:
        array = get_constant(value)
        if value is None or array is None or array.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            wrong = int(np.count_nonzero(~(np.abs(array) <= MAX_CONSTANT)))
        if wrong:
            values = f"{wrong} of the {array.size} values of {value.name!r}"
            reason = f"{values} are NaN, infinite or above {MAX_CONSTANT:g}"
            advice = "the training has diverged or the file is damaged: check where it comes from"
            yield Offense(str(node.name), node.op_type, reason, advice)


def _check_bias_shape(node: ir.Node) -> Iterator[Offense]:
    """Neither shape inference nor a runtime that loads the file checks the length of a bias."""
    bias = get_shape(get_input(node, 2)) if node.op_type == "Conv" else None
    weight = get_shape(node.inputs[1]) if bias is not None else None
    if weight and bias is not None and bias != weight[:1]:
        reason = f"its bias has the shape {list(bias)}, for {weight[0]} output channels"
        yield Offense(str(node.name), node.op_type, reason, "the file is damaged: export it again")
