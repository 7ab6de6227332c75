"""Teacher-forced codes: every quantizer computes its codes, and the nodes behind it read others.

    before    ... Conv -- Q -- Clip -- c -- DQ -- Conv ...
    forced    ... Conv -- Q -- Clip -- c (output)     c' (input) -- DQ -- Conv ...

One code that is rounded differently early in a network moves everything behind it, so comparing two
runs end to end counts one cause many times. With all codes fed from outside, every layer is
compared on equal inputs, and a mismatch shows only where it arises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from dfqonnx.core.quantization_plan import QUANTIZER_PREFIX
from dfqonnx.graph.op_traits import Trait, has_trait

_FEED = "forced:"


@dataclass(frozen=True)
class CodeTensor:
    """The codes of one quantizer in the file."""

    quantizer: str  # its name; the name of `value` in files that do not name them
    value: str  # the name of the integer tensor
    dtype: int  # ONNX element type
    summed: bool = False  # behind a node that sums whole planes, in which libraries differ


def find_codes(proto: onnx.ModelProto) -> tuple[CodeTensor, ...]:
    """Return the code tensor of every activation quantizer of the file, in graph order."""
    types = {t.name: t.data_type for t in proto.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    quantizers = [n for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    named = [n for n in quantizers if n.name.startswith(QUANTIZER_PREFIX)]
    found = []
    producers = {name: node for node in proto.graph.node for name in node.output}
    for node in named or quantizers:
        value = node.output[0]
        after = readers.get(value, [])
        if len(after) == 1 and has_trait(after[0].op_type, Trait.UPPER_BOUND):
            value = after[0].output[0]
        zero = node.input[2] if len(node.input) > 2 else ""
        dtype = types.get(zero, TensorProto.UINT8)
        owner = node.name.removeprefix(QUANTIZER_PREFIX) or value
        found.append(CodeTensor(owner, value, dtype, _behind_sums(node, producers)))
    return tuple(found)


def _behind_sums(quantizer: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Return whether a quantizer reads a node that sums whole planes, up to the codes before it."""
    waiting, seen = [quantizer.input[0]], set()
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        if node is None or name in seen or node.op_type == "DequantizeLinear":
            continue
        if has_trait(node.op_type, Trait.NORMALIZES):
            return True
        seen.add(name)
        waiting += node.input
    return False


def expose_codes(proto: onnx.ModelProto, codes: tuple[CodeTensor, ...]) -> onnx.ModelProto:
    """Make every code tensor of `proto` a graph output as well; return `proto`."""
    present = {output.name for output in proto.graph.output}
    for code in codes:
        if code.value not in present:
            proto.graph.output.append(helper.make_tensor_value_info(code.value, code.dtype, None))
    return proto


def force_codes(
    proto: onnx.ModelProto,
    codes: tuple[CodeTensor, ...],
    shapes: Mapping[str, tuple[int, ...]],
) -> onnx.ModelProto:
    """Let the consumers of codes read graph inputs, see `feed_name`; return `proto`.

    `shapes` has the shape of every code tensor, the batch axis included.
    """
    expose_codes(proto, codes)
    values = {code.value for code in codes}
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name in values:
                node.input[index] = feed_name(name)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    batch = dims[0].dim_value or dims[0].dim_param or "N" if dims else "N"
    for code in codes:
        shape = [batch, *shapes[code.value][1:]]
        feed = helper.make_tensor_value_info(feed_name(code.value), code.dtype, shape)
        proto.graph.input.append(feed)
    return proto


def feed_name(value: str) -> str:
    """Return the graph input that stands for the code tensor `value`."""
    return _FEED + value
