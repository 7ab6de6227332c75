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
from onnx import TensorProto, helper, numpy_helper

from dfqonnx.core.quantization_plan import QUANTIZER_PREFIX
from dfqonnx.graph.op_traits import Trait, has_trait

_FEED = "forced:"
WIDE_LEVELS = 257  # levels of 16 bits in one of 8


@dataclass(frozen=True, kw_only=True)
class CodeTensor:
    """The codes of one quantizer in the file."""

    quantizer: str  # its name; the name of `value` in files that do not name them
    value: str  # the name of the integer tensor
    dtype: int  # ONNX element type
    summed: bool = False  # behind a node that sums whole planes, in which libraries differ
    # the nodes that compute what it rounds from the codes before it, the nearest first: names
    makers: tuple[str, ...] = ()
    real: str = ""  # the value that it rounds
    scale: float = 1.0
    zero_point: int = 0

    @property
    def wide(self) -> bool:
        """Whether its codes have 16 bits."""
        return self.dtype in {TensorProto.UINT16, TensorProto.INT16}


def find_codes(proto: onnx.ModelProto) -> tuple[CodeTensor, ...]:
    """Return the code tensor of every activation quantizer of the file, in graph order."""
    constants = {t.name: t for t in proto.graph.initializer}
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
        elif len(after) == 1:
            value = _find_bounded(after[0], readers) or value
        scale, zero = (constants.get(name) for name in (*node.input[1:], "")[:2])
        makers = _find_makers(node, producers)
        found.append(
            CodeTensor(
                quantizer=node.name.removeprefix(QUANTIZER_PREFIX) or value,
                value=value,
                dtype=TensorProto.UINT8 if zero is None else zero.data_type,
                summed=any(has_trait(maker.op_type, Trait.NORMALIZES) for maker in makers),
                makers=tuple(maker.name or maker.output[0] for maker in makers),
                real=node.input[0],
                scale=1.0 if scale is None else float(numpy_helper.to_array(scale).ravel()[0]),
                zero_point=0 if zero is None else int(numpy_helper.to_array(zero).ravel()[0]),
            )
        )
    return tuple(found)


def _find_bounded(cast: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]) -> str | None:
    """Return the codes behind a bound that reads codes as reals, see `signed_comparisons.py`."""
    after = readers.get(cast.output[0], [])
    if cast.op_type != "Cast" or [has_trait(n.op_type, Trait.UPPER_BOUND) for n in after] != [True]:
        return None
    behind = readers.get(after[0].output[0], [])
    return behind[0].output[0] if [node.op_type for node in behind] == ["Cast"] else None


def _find_makers(
    quantizer: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]
) -> list[onnx.NodeProto]:
    """Return the nodes before a quantizer up to the codes before it, the nearest first."""
    waiting, seen, found = [quantizer.input[0]], set(), []
    while waiting:
        name = waiting.pop(0)
        node = producers.get(name)
        if node is None or name in seen or node.op_type == "DequantizeLinear":
            continue
        seen.update(node.output)
        found.append(node)
        waiting += node.input
    return found


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
    *,
    images: int,
) -> onnx.ModelProto:
    """Let the consumers of codes read graph inputs, see `feed_name`; return `proto`.

    `shapes` has the shape of every code tensor for so many `images`, the batch axis included.
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
        shape: list[int | str] = [batch, *shapes[code.value][1:]]
        if shapes[code.value][:1] != (images,):  # rows of images, or images on another axis
            shape = [f"{code.value}: axis {axis}" for axis in range(len(shape))]
        feed = helper.make_tensor_value_info(feed_name(code.value), code.dtype, shape)
        proto.graph.input.append(feed)
    return proto


def feed_name(value: str) -> str:
    """Return the graph input that stands for the code tensor `value`."""
    return _FEED + value
