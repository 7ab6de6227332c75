"""What is refused before any work is done, each reason tied to its node.

Refuse networks that nothing can compute: constants that are no numbers, values without measure.

NaN and infinity come from training that diverged or from a damaged file; beyond 1e18 the squares
that every error measure is made of leave float32. Bounds of a Clip and fillings of masks are free
to be infinite: only constants that enter sums and products are looked at.

A value of more than 2^30 numbers for one image (4 GB in float32) is a wrong shape, or an image size
that no machine trains on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs

from dfqonnx.errors import Offense, UnsupportedModel
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.graph.passes.edit import constant, dims

MIN_OPSET = 7
_MOST_INPUT = 2**31  # numbers in the input tensor
_QUANTIZED = ("QLinear", "QGemm")  # as ONNX Runtime names its own
_STANDARD = frozenset({"", "ai.onnx"})
_STATIC = (
    "export with a fixed image size and by tracing (torch.onnx.export without scripting), or let a"
    " simplifier (onnxsim) decide the branch"
)
_EVALUATE = "export in evaluation mode: model.eval() in PyTorch, training=False in Keras"
_DOMAINS = {
    "com.microsoft": "ONNX Runtime wrote them when it optimized: take the file from before that",
    "org.pytorch.aten": "export without ATEN fallback, at a newer opset",
    "ai.onnx.ml": "leave the scikit-learn part out of the export",
}
_READABLE = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.UINT8,
    }
)


def find_offenses(proto: onnx.ModelProto) -> tuple[Offense, ...]:
    """Return every reason why `proto` cannot be quantized; empty when it can be tried."""
    version = next((o.version for o in proto.opset_import if o.domain in _STANDARD), 0)
    found = [*_versions(proto, version), *_inputs(proto)]
    local = {(f.domain, f.name) for f in proto.functions}
    nodes = [*proto.graph.node, *(n for f in proto.functions for n in f.node)]
    stored = {t.name for t in proto.graph.initializer}
    for index, node in enumerate(nodes):
        unpacks = node.op_type == "DequantizeLinear" and stored.issuperset(node.input)
        if (node.domain, node.op_type) not in local and not unpacks:  # weights kept as integers
            found += _node(node, index, version)
    if not any(has_trait(n.op_type, Trait.LAYER) for n in nodes) and not found:
        found.append(
            Offense("graph", "", "it has no Conv, Gemm or MatMul", "there is nothing to quantize")
        )
    return tuple(found)


def _versions(proto: onnx.ModelProto, version: int) -> Iterator[Offense]:
    if version < MIN_OPSET:
        yield Offense(
            "graph", "", f"opset {version} is older than {MIN_OPSET}", "export at opset 13 or later"
        )
    if version > defs.onnx_opset_version():
        yield Offense(
            "graph",
            "",
            f"opset {version} is newer than the installed onnx package knows"
            f" ({defs.onnx_opset_version()})",
            "upgrade onnx, or export at opset 21",
        )


def _inputs(proto: onnx.ModelProto) -> Iterator[Offense]:
    weights = {t.name for t in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(i.name) for i in inputs) or "none"
        yield Offense(
            "graph", "", f"one image input is expected, it has {names}", "export a one-input model"
        )
        return
    kind = inputs[0].type
    if not kind.HasField("tensor_type"):
        yield Offense(inputs[0].name, "input", "it is not a tensor")
        return
    tensor = kind.tensor_type
    if tensor.elem_type not in _READABLE:
        name = onnx.TensorProto.DataType.Name(tensor.elem_type)
        yield Offense(
            inputs[0].name,
            "input",
            f"its type is {name}, a real one or UINT8 is expected",
            "export in float32",
        )
    if not tensor.HasField("shape") or not 2 <= len(tensor.shape.dim) <= 5:
        yield Offense(
            inputs[0].name,
            "input",
            f"its shape has {len(tensor.shape.dim)} dimensions",
            "declare it as batch x channels x height x width",
        )
    elif math.prod(max(d.dim_value, 1) for d in tensor.shape.dim) > _MOST_INPUT:
        shape = " x ".join(str(d.dim_value or d.dim_param or "?") for d in tensor.shape.dim)
        yield Offense(
            inputs[0].name,
            "input",
            f"its shape {shape} is more than any machine holds",
            "export with the image and batch size that it is used with",
        )


def _node(node: onnx.NodeProto, index: int, version: int) -> Iterator[Offense]:
    name = node.name or f"node {index} with output {_first(node.output)}"
    if has_trait(node.op_type, Trait.CONTROL_FLOW):
        yield Offense(name, node.op_type, "control flow cannot be quantized", _STATIC)
    elif has_trait(node.op_type, Trait.QUANTIZED) or node.op_type.startswith(_QUANTIZED):
        advice = "start from the float model that it was made from"
        yield Offense(name, node.op_type, "the model is already quantized", advice)
    elif node.domain not in _STANDARD:
        yield Offense(
            name,
            node.op_type,
            f"operators of domain {node.domain!r} are not known",
            _DOMAINS.get(node.domain, "export with standard ai.onnx operators"),
        )
    elif version in range(1, defs.onnx_opset_version() + 1) and not defs.has(
        node.op_type, max_inclusive_version=version
    ):
        yield Offense(
            name,
            node.op_type,
            f"opset {version} of ONNX has no such operator",
            "export again with a current exporter",
        )
    elif node.op_type == "BatchNormalization" and _trains(node):
        yield Offense(name, node.op_type, "it is in training mode", _EVALUATE)


def _trains(node: onnx.NodeProto) -> bool:
    mode = any(a.name == "training_mode" and a.i == 1 for a in node.attribute)
    return mode or sum(1 for o in node.output if o) > 1


def _first(names: Sequence[str]) -> str:
    return repr(names[0]) if names else "none"


LARGEST = 1e18
MOST = 2**30  # numbers in one value, for one image
_ADVICE = "the training has diverged or the file is damaged: check where it comes from"


def require_finite(graph: ir.Graph) -> None:
    """Look at every floating-point constant that a node computes with.

    Raises:
        UnsupportedModel: naming each node that reads one that is not finite, or huge, and each
            Conv whose bias has another length than it has outputs.
    """
    offenses = [offense for node in graph for offense in (*_offenses(node), *_misfits(node))]
    if offenses:
        raise UnsupportedModel("this model holds constants that cannot be computed with:", offenses)


def require_measure(graph: ir.Graph) -> None:
    """Look at the size of every computed value.

    Raises:
        UnsupportedModel: naming each node that makes a value too large to be held.
    """
    offenses = []
    for node in graph:
        for value in node.outputs:
            sizes = [d for d in dims(value) or () if isinstance(d, int)]
            if math.prod(sizes) > MOST:
                shape = " x ".join(map(str, dims(value) or ()))
                reason = f"its output {value.name!r} is {shape}, over 4 GB for a single image"
                advice = "export the model with the image size that it is used with"
                offenses.append(Offense(str(node.name), node.op_type, reason, advice))
    if offenses:
        raise UnsupportedModel("this model is too large to be trained:", offenses)


def _offenses(node: ir.Node) -> Iterator[Offense]:
    if has_trait(node.op_type, Trait.MAY_READ_INFINITY):
        return
    for value in node.inputs:
        array = constant(value)
        if value is None or array is None or array.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            wrong = int(np.count_nonzero(~(np.abs(array) <= LARGEST)))
        if wrong:
            yield Offense(
                str(node.name),
                node.op_type,
                f"{wrong} of the {array.size} values of {value.name!r} are NaN, infinite"
                f" or above {LARGEST:g}",
                _ADVICE,
            )


def _misfits(node: ir.Node) -> Iterator[Offense]:
    """Neither shape inference nor a runtime that loads the file looks at the length of a bias."""
    if node.op_type != "Conv" or len(node.inputs) < 3:
        return
    weight, bias = dims(node.inputs[1]), dims(node.inputs[2])
    if weight and bias is not None and node.inputs[2] is not None and bias != weight[:1]:
        reason = f"its bias has the shape {list(bias)}, for {weight[0]} output channels"
        yield Offense(str(node.name), node.op_type, reason, "the file is damaged: export it again")
