"""Why a node of a QDQ file did not become an integer kernel, by the rules of the file's target."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from dfqonnx.core.quantization_plan import SEPARATOR_PREFIX
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.targets.profile import TargetProfile

APART = "it is kept apart from its quantizers: that kernel is slower, or computes other codes"
FLOAT_WEIGHT = "its weight is float"
WIDE = "it reads or makes codes of 16 bits; integer kernels take 8"
NOT_FUSED = "did not fuse it"
_SIXTEEN_BITS = {TensorProto.INT16, TensorProto.UINT16}
_FOUR_BITS = {TensorProto.INT4, TensorProto.UINT4}


class Context:
    """A file's graph, indexed, and the runtime that it is for."""

    def __init__(self, proto: onnx.ModelProto, target: TargetProfile) -> None:
        self.target, nodes = target, proto.graph.node
        self.initializers = {t.name: t.data_type for t in proto.graph.initializer}
        self.outputs = {value.name for value in proto.graph.output}
        self.makers = {name: node for node in nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self._names = {node.name: node for node in nodes if node.name}

    def find(self, name: str, op: str) -> onnx.NodeProto | None:
        """Return the node of that name, else the one that makes the value of that name.

        The runtime names a fused node by what it ends with; so where an `op` stands close before
        that, it is meant.
        """
        found = self._names.get(name) or self.makers.get(name)
        node, steps = found, 3
        while node is not None and node.op_type != op and steps:
            node, steps = self.makers.get(node.input[0]) if node.input else None, steps - 1
        return node if node is not None and node.op_type == op else found

    def separates(self, name: str) -> bool:
        """Tell whether `name` comes from a node that keeps its reader apart from a quantizer."""
        return name in self.makers and self.makers[name].name.startswith(SEPARATOR_PREFIX)

    def dequantized(self, name: str) -> bool:
        """Tell whether `name` comes from a DequantizeLinear."""
        return name in self.makers and self.makers[name].op_type == "DequantizeLinear"

    def is_wide(self, name: str) -> bool:
        """Tell whether a value comes from codes of 16 bits, or (behind a Relu) becomes such."""
        for each in (self.makers.get(name), *self._quantizers_of(name)):
            zero = None if each is None or len(each.input) < 3 else each.input[2]
            if self.initializers.get(zero or "") in _SIXTEEN_BITS:
                return True
        return False

    def _quantizers_of(self, name: str) -> list[onnx.NodeProto]:
        readers = self.readers.get(name, [])
        while len(readers) == 1 and readers[0].op_type in self.target.absorbed:
            readers = self.readers.get(readers[0].output[0], [])
        return [reader for reader in readers if reader.op_type == "QuantizeLinear"]

    def quantized_after(self, name: str) -> bool:
        """Tell whether all readers of `name` (behind a Relu or Clip) are QuantizeLinear."""
        readers = self.readers.get(name, [])
        while len(readers) == 1 and readers[0].op_type in self.target.absorbed:
            readers = self.readers.get(readers[0].output[0], [])
        return bool(readers) and all(r.op_type == "QuantizeLinear" for r in readers)


def explain_fallback(node: onnx.NodeProto, context: Context) -> str:
    """Return the first reason that applies to `node`."""
    target, kernel = context.target, context.target.kernels.get(node.op_type)
    if node.op_type in target.absorbed:
        return _activation(node, context)
    if any(map(context.separates, node.input)):
        return target.float_reasons.get(node.op_type, APART)
    if kernel is None:
        return target.float_reason(node.op_type)
    data = [n for n in node.input[:2] if n and n not in context.initializers]
    missing = [n for n in data if not context.dequantized(n)]
    if has_trait(node.op_type, Trait.LAYER) and node.input[1] in context.initializers:
        return FLOAT_WEIGHT
    if missing:
        return f"its input {missing[0]!r} is not quantized"
    codes = [context.makers[n].input[0] for n in data]
    if any(map(context.is_wide, (*data, *node.output))):
        return WIDE
    if any(context.initializers.get(name) in _FOUR_BITS for name in codes):
        return "a 4-bit type goes into DequantizeLinear; integer kernels take 8 bits"
    output = node.output[0]
    if kernel.output == "always" and not context.quantized_after(output):
        return f"its output {output!r} is " + (
            "a graph output and not quantized" if output in context.outputs else "not quantized"
        )
    return f"it is quantized on all sides, but {target.runtime} {NOT_FUSED}"


def _activation(node: onnx.NodeProto, context: Context) -> str:
    maker = context.makers.get(node.input[0])
    if maker is not None and maker.op_type == "DequantizeLinear":
        return "it stands alone between DequantizeLinear and QuantizeLinear"
    if context.quantized_after(node.output[0]):
        return "its range is not that of the quantizer behind it, so it cannot be absorbed"
    return f"its output {node.output[0]!r} is not quantized"
