"""A quantized file as rules read it: who makes and reads a value, and with which numbers.

Nothing is changed, nothing is executed, and only small tensors are looked into:

    encoding(node)      scale, zero point and element type of a QuantizeLinear or DequantizeLinear
    weight_of(layer)    how a layer's weight is stored
    multiply_adds       of every layer; None where shapes are unknown

Nodes of functions and of the bodies of If and Loop are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from dfqonnx.core.quantization_plan import SEPARATOR_PREFIX
from dfqonnx.graph.op_traits import Trait, has_trait
from dfqonnx.lint.quantized_shapes import infer_shapes

MOST_READ = 2**22  # numbers of a constant that is looked into
_MOST_STEPS = 8  # nodes between a weight and its DequantizeLinear, or a value and its codes
_PLAIN = frozenset(  # of attributes that are looked at
    getattr(AttributeProto, name) for name in ("INT", "INTS", "FLOAT", "FLOATS", "STRING")
)
UNSIGNED = frozenset({TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT4})
EIGHT_BITS = frozenset({TensorProto.UINT8, TensorProto.INT8})
FOUR_BITS = frozenset({TensorProto.UINT4, TensorProto.INT4})
SIXTEEN_BITS = frozenset({TensorProto.UINT16, TensorProto.INT16})
CODE_LIMITS: Mapping[int, tuple[int, int]] = {  # the smallest and the largest code of a type
    TensorProto.UINT8: (0, 255),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535),
    TensorProto.INT16: (-32768, 32767),
}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """The numbers of a QuantizeLinear or DequantizeLinear; None where they are computed."""

    scale: NDArray[Any] | None
    zero_point: NDArray[Any] | None
    kind: int  # TensorProto's element type of the codes; 0 where it cannot be told
    axis: int
    blocked: bool

    def same(self, other: Encoding) -> bool:
        """Tell whether both map reals to codes alike, as far as that can be told."""
        return all(
            one is None
            or two is None
            or (one.shape == two.shape and np.array_equal(one, two, equal_nan=True))
            for one, two in ((self.scale, other.scale), (self.zero_point, other.zero_point))
        )


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """How the weight of a layer is stored."""

    tensor: TensorProto | None  # what the file holds; None for a computed weight
    dequantize: NodeProto | None  # None for a float weight
    quantize: NodeProto | None  # in front of that, on floats
    casts: bool  # between the codes and their DequantizeLinear
    moved: bool  # its axes are permuted behind DequantizeLinear


class QdqGraph:
    """The main graph of a file, indexed."""

    def __init__(self, proto: onnx.ModelProto, folder: Path | None = None) -> None:
        self.proto, self.folder, graph = proto, folder, proto.graph
        # one that reads or makes nothing breaks no rule; a runtime refuses what should not
        self.nodes = [node for node in graph.node if node.input and node.output]
        self.opset = max((o.version for o in proto.opset_import if not o.domain), default=1)
        self.constants: dict[str, TensorProto] = {
            tensor.name: tensor for tensor in graph.initializer
        }
        self.makers = {name: node for node in graph.node for name in node.output}
        self.outputs = {value.name for value in graph.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.output:
                self._keep_constant(node)
        self._encodings: dict[int, Encoding] = {}

    def _keep_constant(self, node: NodeProto) -> None:
        """List the value of a Constant beside the initializers."""
        given = node.attribute[0]
        if given.type == AttributeProto.TENSOR:
            self.constants[node.output[0]] = given.t
        elif given.type == AttributeProto.FLOAT:
            self.constants[node.output[0]] = numpy_helper.from_array(np.array(given.f, np.float32))
        elif given.type == AttributeProto.INT:
            self.constants[node.output[0]] = numpy_helper.from_array(np.array(given.i, np.int64))

    def array(self, name: str) -> NDArray[Any] | None:
        """Return a constant's numbers; None for no constant, a large one, or data not here."""
        tensor = self.constant(name)
        if tensor is None or math.prod(tensor.dims) > MOST_READ:
            return None
        if tensor.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError, RuntimeError, KeyError):
            return None

    def constant(self, name: str) -> TensorProto | None:
        """Return the tensor of a constant, also behind an Identity; None for what is computed."""
        for _ in range(_MOST_STEPS):
            if name in self.constants:
                return self.constants[name]
            maker = self.makers.get(name)
            if maker is None or maker.op_type != "Identity" or not maker.input:
                return None
            name = maker.input[0]
        return None

    def of(self, op: str) -> Iterator[NodeProto]:
        """Iterate over the nodes of an operator."""
        return (node for node in self.nodes if node.op_type == op)

    def encoding(self, node: NodeProto) -> Encoding:
        """Return the numbers of a QuantizeLinear or DequantizeLinear."""
        known = self._encodings.get(id(node))
        if known is None:
            known = self._encodings[id(node)] = self._read_encoding(node)
        return known

    def _read_encoding(self, node: NodeProto) -> Encoding:
        scale = self.array(node.input[1]) if len(node.input) > 1 else None
        zero_name = node.input[2] if len(node.input) > 2 else ""
        stored = self.constant(zero_name)
        zero = self.array(zero_name)
        if not zero_name and scale is not None:
            zero = np.zeros(scale.shape, np.int64)
        kind = self.kind(node.input[:1]) if node.op_type == "DequantizeLinear" else 0
        if not kind and stored is not None:
            kind = stored.data_type
        if not kind and node.op_type == "QuantizeLinear":
            kind = int(attribute(node, "output_dtype", TensorProto.UINT8))
        return Encoding(
            scale=None if scale is None else scale.astype(np.float64),
            zero_point=None if zero is None else zero.astype(np.int64),
            kind=kind,
            axis=int(attribute(node, "axis", 1)),
            blocked=bool(attribute(node, "block_size", 0)),
        )

    def kind(self, inputs: Sequence[str]) -> int:
        """Return the element type of the codes that come in first; 0 where it cannot be told."""
        for _ in range(_MOST_STEPS):
            if not inputs:
                return 0
            name = inputs[0]
            tensor, maker = self.constant(name), self.makers.get(name)
            if tensor is not None:
                return tensor.data_type
            if maker is None:
                return next((v.type.tensor_type.elem_type for v in self.proto.graph.input
                             if v.name == name), 0)  # fmt: skip
            if maker.op_type == "Cast":
                return int(attribute(maker, "to", 0))
            if maker.op_type == "QuantizeLinear":
                return self.encoding(maker).kind
            inputs = maker.input
        return 0

    def maker(self, name: str, op: str) -> NodeProto | None:
        """Return the node that makes `name`, if it is of that operator."""
        found = self.makers.get(name)
        return found if found is not None and found.op_type == op else None

    def dequantized(self, name: str) -> bool:
        """Tell whether `name` comes from a DequantizeLinear."""
        return self.maker(name, "DequantizeLinear") is not None

    def reads_codes(self, name: str) -> bool:
        """Tell whether `name` comes from a DequantizeLinear, perhaps past what moves numbers.

        ONNX Runtime moves DequantizeLinear behind all of that but a Flatten.
        """
        for _ in range(_MOST_STEPS):
            maker = self.makers.get(name)
            if maker is None or not maker.input:
                return False
            if maker.op_type == "DequantizeLinear":
                return True
            moves = has_trait(maker.op_type, Trait.VALUE_PRESERVING | Trait.MOVES)
            if not moves or maker.op_type == "Flatten":
                return False
            name = maker.input[0]
        return False

    def separates(self, name: str) -> bool:
        """Tell whether `name` comes from a node that keeps its reader apart from a quantizer."""
        return name in self.makers and self.makers[name].name.startswith(SEPARATOR_PREFIX)

    def is_constant(self, name: str) -> bool:
        """Tell whether nothing that a user feeds is in `name`: constants and what is made of them.

        Only chains of one data input are followed.
        """
        for _ in range(_MOST_STEPS):
            if self.constant(name) is not None:
                return True
            maker = self.makers.get(name)
            if maker is None or not maker.input:
                return False
            name = maker.input[0]
        return False

    def activations(self) -> Iterator[tuple[NodeProto, Encoding]]:
        """Iterate over every QuantizeLinear of a computed value."""
        for node in self.of("QuantizeLinear"):
            if node.input and not self.is_constant(node.input[0]):
                yield node, self.encoding(node)

    def activation_codes(self) -> Iterator[tuple[NodeProto, Encoding]]:
        """Iterate over both ends of quantized activations, codes fed by a user included."""
        yield from self.activations()
        for node in self.of("DequantizeLinear"):
            if node.input and not self.is_constant(node.input[0]):
                yield node, self.encoding(node)

    @cached_property
    def layers(self) -> dict[str, NodeProto]:
        """The nodes that multiply with a weight, by their first output."""
        found = {}
        for node in self.nodes:
            product = has_trait(node.op_type, Trait.WEIGHTED) or is_integer_layer(node.op_type)
            place = weight_place(node.op_type)
            if product and len(node.input) > place and self.is_constant(node.input[place]):
                found[node.output[0]] = node
        return found

    def weight_of(self, layer: NodeProto) -> StoredWeight:
        """Return how the weight of a layer is stored."""
        name = layer.input[weight_place(layer.op_type)]
        dequantize = quantize = None
        casts = moved = False
        for _ in range(_MOST_STEPS):
            maker = self.makers.get(name)
            if self.constant(name) is not None or maker is None or not maker.input:
                break
            if maker.op_type == "DequantizeLinear" and dequantize is None:
                dequantize = maker
            elif maker.op_type == "QuantizeLinear" and dequantize is not None:
                quantize = maker
            casts |= dequantize is not None and maker.op_type == "Cast"
            moved |= dequantize is None and has_trait(maker.op_type, Trait.REARRANGES_AXES)
            name = maker.input[0]
        return StoredWeight(
            tensor=self.constant(name),
            dequantize=dequantize,
            quantize=quantize,
            casts=casts,
            moved=moved,
        )

    def weights(self) -> Iterator[tuple[NodeProto, StoredWeight, Encoding]]:
        """Iterate over the layers whose weight is dequantized."""
        for layer in self.layers.values():
            weight = self.weight_of(layer)
            if weight.dequantize is not None:
                yield layer, weight, self.encoding(weight.dequantize)

    @cached_property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes as far as inference finds them, of one image; sizes still free are None."""
        found = {t.name: tuple(t.dims) for t in self.constants.values()}
        for name, sizes in infer_shapes(self.proto).items():
            found.setdefault(name, sizes)
        return found

    @cached_property
    def multiply_adds(self) -> dict[str, int | None]:
        """Multiply-adds of every layer for one image, by its first output."""
        return {name: self._count(node) for name, node in self.layers.items()}

    def _count(self, node: NodeProto) -> int | None:
        weight = self.shapes.get(node.input[weight_place(node.op_type)])
        counted = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
        sizes = self.shapes.get(counted)
        if weight is None or sizes is None or len(weight) < 2 or len(sizes) < 2:
            return None
        row = weight[-2:-1] if "MatMul" in node.op_type else weight[1:]
        if node.op_type.endswith("Gemm") and not attribute(node, "transB", 0):
            row = weight[:1]
        numbers = [*sizes[1:], *row]
        return math.prod(n for n in numbers if n) if None not in numbers else None

    def readers_of_reals(self, name: str) -> list[NodeProto]:
        """Return who computes with `name`, behind quantizers and what only moves numbers."""
        found: dict[int, NodeProto] = {}
        waiting, seen = [name], {name}
        while waiting:
            for node in self.readers.get(waiting.pop(), ()):
                if not passes_on(node.op_type):
                    found[id(node)] = node
                    continue
                fresh = [output for output in node.output if output not in seen]
                seen.update(fresh)
                waiting += fresh
        return list(found.values())

    def layers_reading(self, name: str) -> frozenset[str]:
        """Return the layers (by first output) that compute with `name`."""
        outputs = (node.output[0] for node in self.readers_of_reals(name) if node.output)
        return frozenset(output for output in outputs if output in self.layers)

    def layers_making(self, name: str) -> frozenset[str]:
        """Return the layer behind `name`, past activations and what only moves numbers."""
        for _ in range(_MOST_STEPS):
            if name in self.layers:
                return frozenset({name})
            maker = self.makers.get(name)
            if maker is None or not maker.input:
                break
            if not has_trait(maker.op_type, Trait.ELEMENTWISE | Trait.VALUE_PRESERVING):
                break
            name = maker.input[0]
        return frozenset()

    def layers_around(self, quantizer: NodeProto) -> frozenset[str]:
        """Return the layers that make or read what a quantizer stands on."""
        makes = self.layers_making(quantizer.input[0])
        return makes | self.layers_reading(quantizer.output[0])


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute's value, or what it is by default; so does one of another type.

    With None as default, any type is returned.
    """
    for each in node.attribute:
        if each.name == name and each.type in _PLAIN:
            value = helper.get_attribute_value(each)
            return value if default is None or isinstance(value, type(default)) else default
    return default


def name_kind(number: int) -> str:
    """Return an element type as people write it."""
    known = number in TensorProto.DataType.values()
    return TensorProto.DataType.Name(number).lower() if known and number else f"type {number}"


def clip_bounds(graph: QdqGraph, node: NodeProto) -> tuple[float, float]:
    """Return the bounds of a Relu or Clip; those that are computed count as none."""
    if node.op_type != "Clip":
        return 0.0, float("inf")
    bounds = [float("-inf"), float("inf")]
    for place_of, name in enumerate(node.input[1:3]):
        value = graph.array(name) if name else None
        if value is not None and value.size == 1:
            bounds[place_of] = float(value.flat[0])
    least = attribute(node, "min", bounds[0])
    return float(least), float(attribute(node, "max", bounds[1]))


def label(node: NodeProto) -> str:
    """Return how a node is called: by its name, else by what it makes."""
    return node.name or (node.output[0] if node.output else node.op_type)


def is_integer_layer(op: str) -> bool:
    """Tell whether an operator is a layer of its own for integers, QDQ or not."""
    if op.startswith("Dynamic") or has_trait(op, Trait.CODES):
        return False
    return has_trait(op, Trait.QUANTIZED) or op == "QGemm"


def is_integer_operator(op: str) -> bool:
    """Tell whether an operator computes with codes, by its name in any domain."""
    quantized = has_trait(op, Trait.QUANTIZED) and not has_trait(op, Trait.CODES)
    return quantized or op.startswith(("QLinear", "QGemm", "DynamicQuantize"))


def weight_place(op: str) -> int:
    """Return which input of a layer is its weight."""
    return 3 if op.startswith("QLinear") or op == "QGemm" else 1


def passes_on(op: str) -> bool:
    """Tell whether an operator only moves or recodes numbers, or limits them."""
    recodes = has_trait(op, Trait.CODES | Trait.VALUE_PRESERVING) or op == "Cast"
    return recodes or op == "Clip" or op == "Pad"
