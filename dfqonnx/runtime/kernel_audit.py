"""What ONNX Runtime really made of a file, read from the graph that it executes.

The file is loaded with all optimizations and the optimized graph is written to a temporary folder.
Element types are followed through it, since its own operators carry no shape inference: a node is
an integer node when what it works on is 8 or 16 bits wide. QuantizeLinear and DequantizeLinear are
counted as conversions. Anything else is a float node, named as in the user's file.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from dfqonnx.core.quantization_plan import SEPARATOR_PREFIX
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.runtime.fallback_reasons import Context, explain_fallback
from dfqonnx.runtime.session import Provider, Session
from dfqonnx.targets.profile import recorded_target

_CODES = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16}
_LAYOUT = {"ReorderInput", "ReorderOutput"}
_FLOAT_OUTPUT = {"DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"}
DECORATION = re.compile(r"(_nchwc|_token_\d+|_matmul|/MatMulAddFusion|_nhwc)+$")
_STEPS = 4


@dataclass(frozen=True)
class FloatKernel:
    """A node of the user's file that runs in float, and why.

    `op` is its operator there, or the runtime's where that stands for several.
    """

    name: str
    op: str
    reason: str

    @property
    def weighted(self) -> bool:
        """Whether it is one of the operators that do the work."""
        return has_trait(self.op, Trait.WEIGHTED)


@dataclass(frozen=True)
class Audit:
    """What runs how."""

    integer_nodes: Mapping[str, int]  # operator -> how many work on integers of 8 or 16 bits
    conversions: Mapping[str, int]  # Quantize and Dequantize nodes that are left
    float_nodes: tuple[FloatKernel, ...]  # everything else that computes
    provider: str  # where the graph was loaded

    @property
    def float_weighted(self) -> tuple[FloatKernel, ...]:
        """Conv, Gemm, MatMul and ConvTranspose that stayed in float."""
        return tuple(node for node in self.float_nodes if node.weighted)


def audit_kernels(path: Path, *, provider: Provider = "cpu") -> Audit:
    """Load the file at `path` as deployed and report what became of its nodes."""
    with tempfile.TemporaryDirectory(prefix="dfqonnx-audit-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        Session(path, provider=provider, optimized_path=optimized)
        executed = onnx.load(optimized)
    return audit_graph(executed, onnx.load(path, load_external_data=False), provider)


def audit_graph(executed: onnx.ModelProto, proto: onnx.ModelProto, provider: str) -> Audit:
    """Report what became of the nodes of `proto` in the graph that ONNX Runtime executes."""
    target = recorded_target({entry.key: entry.value for entry in proto.metadata_props})
    context = Context(proto, target)
    types = _types(executed)
    integer: Counter[str] = Counter()
    conversions: Counter[str] = Counter()
    floats: list[FloatKernel] = []
    made = Context(executed, target)
    for node in executed.graph.node:
        if node.name.startswith(SEPARATOR_PREFIX):
            conversions["separated"] += 1
        elif has_trait(node.op_type, Trait.CODES):
            conversions[node.op_type] += 1
        elif _is_integer(node, types):
            integer[node.op_type] += 1
        elif node.op_type not in _LAYOUT:
            floats.append(_float_node(node, made, context))
    return Audit(
        dict(sorted(integer.items())),
        dict(sorted(conversions.items())),
        tuple(dict.fromkeys(floats)),  # one line for a node that the runtime split up
        provider,
    )


def _is_integer(node: onnx.NodeProto, types: Mapping[str, int]) -> bool:
    if node.op_type.startswith("QLinear") or node.op_type in {"QGemm", "ConvInteger"}:
        return True
    return any(types.get(name) in _CODES for name in node.input[:1])


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every value as far as it follows from the operators."""
    types = {t.name: t.data_type for t in proto.graph.initializer}
    types |= {v.name: v.type.tensor_type.elem_type for v in proto.graph.input}
    for node in proto.graph.node:
        first = types.get(node.input[0], 0) if node.input else 0
        if node.op_type == "QuantizeLinear":
            first = types.get(node.input[2], TensorProto.UINT8) if len(node.input) > 2 else 2
        elif node.op_type in _FLOAT_OUTPUT or (node.op_type == "QGemm" and len(node.input) < 8):
            first = TensorProto.FLOAT
        elif node.op_type == "QLinearConcat":
            first = types.get(node.input[1], TensorProto.UINT8)
        types |= dict.fromkeys(node.output, first)
    return types


def _float_node(node: onnx.NodeProto, executed: Context, context: Context) -> FloatKernel:
    op = "Conv" if node.op_type == "FusedConv" else node.op_type
    original = _original(node, op, context) or _behind(node, executed, context)
    if original is None:
        return FloatKernel(node.name or node.output[0], op, "made by the runtime's own optimizer")
    name = original.name or original.output[0]
    return FloatKernel(name, original.op_type, explain_fallback(original, context))


def _original(node: onnx.NodeProto, op: str, context: Context) -> onnx.NodeProto | None:
    """Return the node of the user's file that `node` is named after."""
    for candidate in (node.name, *node.output):
        for name in (candidate, DECORATION.sub("", candidate)):
            if name and (found := context.find(name, op)) is not None:
                return found
    return None


def _behind(node: onnx.NodeProto, executed: Context, context: Context) -> onnx.NodeProto | None:
    """Return what feeds the next quantizer in the user's file: the runtime split it up."""
    current: onnx.NodeProto | None = node
    for _ in range(_STEPS):
        readers = executed.readers.get(current.output[0], []) if current is not None else []
        current = readers[0] if readers else None
        if current is not None and current.op_type == "QuantizeLinear":
            quantizer = context.find(current.name, "QuantizeLinear")
            return None if quantizer is None else context.makers.get(quantizer.input[0])
    return None
