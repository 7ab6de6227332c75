"""What a runtime executes on integers, by its own account, and the share of the work that this is.

    ONNX Runtime    the optimized graph, as `kernel_audit.py` reads it
    QNN             a node that is quantized in the file, in a partition of QNN's
    OpenVINO        the precision of the layer in the executable graph is 8 bits or fewer

The share is that of the multiply-adds of Conv, ConvTranspose, Gemm and MatMul for one run.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.runtime.adapters.execute import Execution, Layer
from dfqonnx.runtime.adapters.runtimes import RuntimeAdapter
from dfqonnx.runtime.kernel_audit import Audit, FloatKernel, audit_graph

_INTEGERS = re.compile(r"[ui][1-8]")
_COPIES = re.compile(r"(_token_\d+)+$")  # what ONNX Runtime adds to names when it changes layouts
_CPU = "CPU"


@dataclass(frozen=True, kw_only=True)
class RuntimeAudit:
    """How much of a network a runtime executes on integers."""

    audit: Audit
    share: float | None  # of the multiply-adds; None where there are none
    partitions: int | None = None  # of a processor that takes parts of the graph
    elsewhere: tuple[str, ...] = ()  # the operators that are left to the main processor


def audit_execution(
    adapter: RuntimeAdapter, proto: onnx.ModelProto, execution: Execution
) -> RuntimeAudit | None:
    """Return what runs on integers of the file `proto`, whose sizes are fixed.

    None where the runtime does not say.
    """
    name = f"{adapter.title} {execution.version}"
    if adapter.reports == "graph" and execution.executed is not None:
        return with_share(audit_graph(execution.executed, proto, name), proto)
    if adapter.reports == "places" and execution.layers:
        return _audit_places(adapter, name, proto, execution.layers)
    if adapter.reports == "precisions" and execution.layers:
        return _audit_precisions(adapter, name, proto, execution.layers)
    return None


def with_share(audit: Audit, proto: onnx.ModelProto) -> RuntimeAudit:
    """Add the share of the multiply-adds; the sizes of the file are fixed."""
    work = multiply_adds(proto)
    floats = {node.name for node in audit.float_weighted}
    total = sum(work.values())
    rest = sum(count for name, count in work.items() if name in floats)
    return RuntimeAudit(audit=audit, share=1 - rest / total if total else None)


def _audit_precisions(
    adapter: RuntimeAdapter, name: str, proto: onnx.ModelProto, layers: tuple[Layer, ...]
) -> RuntimeAudit:
    """Read the precision of every layer that holds nodes of the file."""
    owner = _owners(proto)
    found: dict[str, Layer] = {}
    for layer in layers:
        for part in layer.names:
            if (node := owner(part)) is not None:
                found.setdefault(node, layer)
    integer = {id(v): v for v in found.values() if _INTEGERS.fullmatch(v.precision.lower())}
    floats = []
    for node in _computing(proto):
        layer_of = found.get(_name(node))
        if layer_of is None and has_trait(node.op_type, Trait.WEIGHTED):
            floats.append(_float(node, f"{adapter.title} does not say how it computes it"))
        elif layer_of is not None and id(layer_of) not in integer:
            floats.append(_float(node, f"{adapter.title} computes it in {layer_of.precision}"))
    counts = Counter(layer.op for layer in integer.values())
    return with_share(Audit(dict(sorted(counts.items())), {}, tuple(floats), name), proto)


def _audit_places(
    adapter: RuntimeAdapter, name: str, proto: onnx.ModelProto, layers: tuple[Layer, ...]
) -> RuntimeAudit:
    """Tell the nodes of an accelerator's partitions from those of the main processor."""
    here = [layer for layer in layers if layer.place.startswith(_CPU)]
    there = [layer for layer in layers if not layer.place.startswith(_CPU)]
    taken = {_COPIES.sub("", part) for layer in there for part in layer.names}
    quantized = _quantized(proto)
    integer: Counter[str] = Counter()
    floats = []
    for node in _computing(proto):
        if _name(node) not in taken:
            if any(_name(node) in map(_plain, layer.names) for layer in here):
                floats.append(_float(node, f"{adapter.title} leaves it to the CPU"))
        elif _name(node) in quantized:
            integer[node.op_type] += 1
        else:
            floats.append(_float(node, "it is not quantized in the file"))
    conversions = Counter(layer.op for layer in here if has_trait(layer.op, Trait.CODES))
    found = Audit(
        dict(sorted(integer.items())), dict(sorted(conversions.items())), tuple(floats), name
    )
    summed = with_share(found, proto)
    return RuntimeAudit(
        audit=found,
        share=summed.share,
        partitions=len({layer.place for layer in there}),
        elsewhere=tuple(layer.op for layer in here),
    )


def _computing(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that compute: neither Q and DQ, nor what reads constants or codes only."""
    constant = {t.name for t in proto.graph.initializer}
    codes: set[str] = set()
    found = []
    for node in proto.graph.node:
        data = [n for n in node.input if n]
        if node.op_type == "QuantizeLinear":
            codes.update(node.output)
        elif constant.issuperset(data):
            constant.update(node.output)
        elif data and data[0] in codes and node.op_type != "DequantizeLinear":
            codes.update(node.output)
        elif node.op_type != "DequantizeLinear":
            found.append(node)
    return found


def _quantized(proto: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes whose first two inputs come from DequantizeLinear."""
    codes = {n.output[0] for n in proto.graph.node if n.op_type == "DequantizeLinear"}
    return {_name(node) for node in proto.graph.node if codes.issuperset(node.input[:2])}


def _owners(proto: onnx.ModelProto) -> Callable[[str], str | None]:
    """Return a function from a runtime's name for a layer to the node of the file in it.

    A runtime that splits a node up adds to its name: `/head/Gemm/WithoutBiases`.
    """
    known = {name: _name(n) for n in _computing(proto) for name in (*n.output, n.name) if name}

    def find(name: str) -> str | None:
        parts = name.split("/")
        tries = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((known[each] for each in tries if each in known), None)

    return find


def _float(node: onnx.NodeProto, reason: str) -> FloatKernel:
    return FloatKernel(_name(node), node.op_type, reason)


def _plain(name: str) -> str:
    return _COPIES.sub("", name)


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def multiply_adds(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds of every layer in a file whose sizes are fixed, by node."""
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {t.name: tuple(t.dims) for t in inferred.initializer} | {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    return {
        _name(node): _products(node, shapes)
        for node in proto.graph.node
        if has_trait(node.op_type, Trait.WEIGHTED)
    }


def _products(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    data, weight, output = (shapes.get(n, ()) for n in (*node.input[:2], node.output[0]))
    if len(weight) < 2:
        return 0
    if node.op_type == "Gemm":
        flipped = any(a.name == "transB" and a.i for a in node.attribute)
        return math.prod(output) * weight[1 if flipped else 0]
    if node.op_type == "MatMul":
        return math.prod(output) * weight[-2]
    counted = data if node.op_type == "ConvTranspose" else output
    return math.prod(counted) * math.prod(weight[1:])
