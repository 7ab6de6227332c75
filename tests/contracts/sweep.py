"""Small models by family: operators at unusual attributes between two layers, exporters' spellings.

Every case is a function that continues a graph from a value (N, 8, 12, 12) to another one; a Conv
or Gemm stands before and behind it, so that quantizers stand around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.contracts.nets import Builder

C, S = 8, 12
Part = Callable[[Builder, str], str]
Case = tuple[str, Part]


def _ints(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.int64)


def _op(op: str, *constants: Any, **attributes: Any) -> Part:
    """An operator of the value and of constants (None for one left out)."""

    def build(b: Builder, x: str) -> str:
        names = ["" if c is None else b.constant(np.asarray(c)) for c in constants]
        return b.op(op, x, *names, **attributes)

    return build


def _swapped(op: str, constant: Any) -> Part:
    return lambda b, x: b.op(op, b.constant(np.asarray(constant)), x)


def convolutions() -> Iterator[Case]:
    shapes: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((6, 8, 1, 1), {}), ((6, 8, 3, 1), {"pads": [1, 0, 1, 0]}),
        ((6, 8, 1, 5), {"pads": [0, 2, 0, 2]}), ((6, 8, 5, 5), {"strides": [2, 3]}),
        ((6, 8, 3, 3), {"dilations": [2, 3]}), ((6, 8, 3, 3), {"pads": [0, 1, 2, 0]}),
        ((6, 8, 2, 2), {"auto_pad": "SAME_UPPER"}), ((6, 8, 2, 2), {"auto_pad": "SAME_LOWER"}),
        ((6, 8, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        ((6, 8, 3, 3), {"auto_pad": "VALID"}), ((8, 1, 3, 3), {"group": 8}),
        ((16, 1, 3, 3), {"group": 8}), ((8, 4, 3, 3), {"group": 2, "pads": [1] * 4}),
        ((6, 8, 12, 12), {}), ((6, 8, 3, 3), {"strides": [4, 4], "pads": [2] * 4}),
        ((1, 8, 3, 3), {}), ((6, 8, 3, 3), {"kernel_shape": [3, 3], "dilations": [1, 1]}),
    ]  # fmt: skip
    for index, (shape, attributes) in enumerate(shapes):
        for bias in (False, True) if index % 4 == 0 else (index % 2 == 0,):

            def build(b: Builder, x: str, shape=shape, more=attributes, bias=bias) -> str:  # type: ignore[no-untyped-def]
                given = [b.noise(*shape), *([b.noise(shape[0])] if bias else [])]
                return b.op("Conv", x, *given, **more)

            yield f"Conv {shape} {attributes} bias {bias}", build
    for attributes in (
        {"strides": [2, 2]}, {"strides": [2, 2], "output_padding": [1, 1]}, {"group": 2},
        {"strides": [2, 2], "pads": [0, 0, 1, 1]}, {"strides": [3, 2], "auto_pad": "SAME_UPPER"},
        {"strides": [2, 2], "output_shape": [24, 23]}, {"dilations": [2, 2]},
    ):  # fmt: skip

        def transposed(b: Builder, x: str, more=attributes) -> str:  # type: ignore[no-untyped-def]
            weight = b.noise(8, 6 // more.get("group", 1), 3, 3)
            return b.op("ConvTranspose", x, weight, b.noise(6), **more)

        yield f"ConvTranspose {attributes}", transposed


def pools() -> Iterator[Case]:
    shared: list[dict[str, Any]] = [
        {"kernel_shape": [2, 2]}, {"kernel_shape": [3, 2], "strides": [2, 3]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}, {"kernel_shape": [12, 12]},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"kernel_shape": [5, 5], "strides": [5, 5], "ceil_mode": 1},
        {"kernel_shape": [1, 1], "strides": [2, 2]}, {"kernel_shape": [3, 3], "pads": [1] * 4},
    ]  # fmt: skip
    for attributes in shared:
        yield f"MaxPool {attributes}", _op("MaxPool", **attributes)
        yield f"AveragePool {attributes}", _op("AveragePool", **attributes)
        if "pads" in attributes or "ceil_mode" in attributes:
            counted = {**attributes, "count_include_pad": 1}
            yield f"AveragePool {counted}", _op("AveragePool", **counted)
    more = {"kernel_shape": [3, 3], "dilations": [2, 2]}
    yield "MaxPool dilations", _op("MaxPool", **more)
    yield "AveragePool dilations", _op("AveragePool", **more)
    yield "LpPool", _op("LpPool", kernel_shape=[2, 2], p=2)
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        yield op, _op(op)


def arithmetic() -> Iterator[Case]:
    draw = np.random.default_rng(5)
    for op in ("Add", "Sub", "Mul", "Div"):
        for shape in ((), (1,), (C, 1, 1), (1, C, 1, 1), (S,), (1, 1, S, S), (C, S, S)):
            array = draw.uniform(0.5, 1.5, shape).astype(np.float32)
            yield f"{op} constant {shape}", _op(op, array)
            if op == "Div":  # by what is never 0
                yield (
                    f"constant {shape} Div",
                    lambda b, x, array=array: b.op("Div", b.constant(array), b.op("Exp", x)),
                )
            elif len(shape) in {0, 3}:
                yield f"constant {shape} {op}", _swapped(op, array)
        yield f"{op} itself", lambda b, x, op=op: b.op(op, x, b.op("Exp", x) if op == "Div" else x)
        yield (
            f"{op} of means",
            lambda b, x, op=op: b.op(op, x, b.op("Sigmoid", b.op("GlobalAveragePool", x))),
        )
        yield (
            f"means {op}",
            lambda b, x, op=op: b.op(
                op, b.op("Sigmoid", b.op("GlobalAveragePool", x)), b.op("Exp", x)
            ),
        )
    for op in ("Max", "Min"):
        yield f"{op} constant", _op(op, np.float32(0.1))
        yield f"{op} of two", lambda b, x, op=op: b.op(op, x, b.conv(x, C, C))
        yield f"{op} alone", lambda b, x, op=op: b.op(op, x)
    yield "Sum of three", lambda b, x: b.op("Sum", x, b.conv(x, C, C), b.conv(x, C, C))
    yield "Mean of two", lambda b, x: b.op("Mean", x, b.conv(x, C, C))
    yield "Pow", _op("Pow", np.float32(2))
    yield "Where", lambda b, x: b.op("Where", b.op("Greater", x, b.constant(np.float32(0))), x,
                                     b.constant(np.float32(0.2)))  # fmt: skip


def activations() -> Iterator[Case]:
    for low, high in ((0, 6), (None, 1), (0, None), (None, None), (-1, 1), (0.25, 2), (0, 0.5)):
        limits = [None if end is None else np.float32(end) for end in (low, high)]
        while limits and limits[-1] is None:
            limits.pop()
        yield f"Clip {low} {high}", _op("Clip", *limits)
    for alpha in (0.0, 0.3, 1.0, 1.5, -0.2):
        yield f"LeakyRelu {alpha}", _op("LeakyRelu", alpha=alpha)
    for shape in ((1,), (C, 1, 1), (1, C, 1, 1), (C, S, S)):
        slopes = np.random.default_rng(1).uniform(0.1, 0.4, shape).astype(np.float32)
        yield f"PRelu {shape}", _op("PRelu", slopes)
    for op in ("Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Elu", "Selu", "Celu",
               "HardSwish", "HardSigmoid", "Mish", "Abs", "Neg", "Exp", "Sqrt", "Sin",
               "ThresholdedRelu"):  # fmt: skip
        part = _op(op)
        yield op, (lambda b, x: b.op("Sqrt", b.op("Abs", x))) if op == "Sqrt" else part
    yield "HardSigmoid 0.5 0.1", _op("HardSigmoid", alpha=0.5, beta=0.1)
    yield "Gelu tanh", _op("Gelu", approximate="tanh")
    for axis in (1, -1):
        yield f"Softmax {axis}", _op("Softmax", axis=axis)
    yield "LogSoftmax", _op("LogSoftmax", axis=1)


def movements() -> Iterator[Case]:
    yield "Reshape 0 -1", _op("Reshape", _ints(0, 4, -1, 24))
    yield "Reshape all", _op("Reshape", _ints(-1, 16, 6, 12))
    for perm in ([0, 2, 3, 1], [0, 1, 3, 2], [0, 3, 1, 2]):
        yield f"Transpose {perm}", _op("Transpose", perm=perm)
    yield (
        "Unsqueeze Squeeze",
        lambda b, x: b.op(
            "Squeeze", b.op("Unsqueeze", x, b.constant(_ints(-1))), b.constant(_ints(4))
        ),
    )
    yield "Slice steps", _op("Slice", _ints(0, 1), _ints(12, 12), _ints(2, 3), _ints(2, 3))
    yield "Slice backwards", _op("Slice", _ints(-1), _ints(-13), _ints(-1), _ints(-1))
    yield "Slice channels", _op("Slice", _ints(-3), _ints(2**31 - 1), _ints(1))
    yield "Gather backwards", _op("Gather", _ints(-1, 0, 3, 3), axis=1)
    yield (
        "Gather one row",
        lambda b, x: b.op(
            "Unsqueeze", b.op("Gather", x, b.constant(np.array(2)), axis=2), b.constant(_ints(2))
        ),
    )
    for axis in (1, -1, -3):
        yield f"Concat twice {axis}", lambda b, x, axis=axis: b.op("Concat", x, x, axis=axis)
    yield "Concat of one", lambda b, x: b.op("Concat", x, axis=1)
    yield "Concat of three", lambda b, x: b.op("Concat", x, b.conv(x, C, 3), b.op("Relu", x),
                                               axis=1)  # fmt: skip
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield f"Pad {mode}", _op("Pad", _ints(0, 0, 1, 2, 0, 0, 3, 0), mode=mode)
    yield "Pad value", _op("Pad", _ints(0, 0, 1, 1, 0, 0, 1, 1), np.float32(0.7))
    yield "Pad lowest", _op("Pad", _ints(0, 0, 1, 1, 0, 0, 1, 1), np.float32(-3))
    yield "Pad negative", _op("Pad", _ints(0, 0, -1, -2, 0, 0, 0, -1))
    yield "Pad both ways", _op("Pad", _ints(0, 0, -1, 2, 0, 0, 1, -1))
    yield "Pad axes", _op("Pad", _ints(1, 2), None, _ints(-1))
    yield "Pad channels", _op("Pad", _ints(0, 1, 0, 0, 0, 3, 0, 0))
    for mode in ("DCR", "CRD"):
        yield f"DepthToSpace {mode}", _op("DepthToSpace", blocksize=2, mode=mode)
    yield "SpaceToDepth", _op("SpaceToDepth", blocksize=3)
    yield "Tile", _op("Tile", _ints(1, 1, 2, 1))
    yield "Expand", lambda b, x: b.op("Expand", b.op("GlobalMaxPool", x),
                                      b.constant(_ints(1, 1, 4, 5)))  # fmt: skip
    for axis in (1, 2, -1):
        yield (
            f"Flatten {axis}",
            lambda b, x, axis=axis: b.op(
                "Reshape", b.op("Flatten", x, axis=axis), b.constant(_ints(-1, C, S, S))
            ),
        )
    yield "Split", lambda b, x: _join_split(b, x, [3, 5])
    yield "Split of thirds", lambda b, x: _join_split(b, x, [2, 2, 4])
    yield "Identity", _op("Identity")
    yield "Dropout", _op("Dropout")
    yield "Cast there and back", lambda b, x: b.op("Cast", b.op("Cast", x, to=TensorProto.DOUBLE),
                                                   to=TensorProto.FLOAT)  # fmt: skip
    for mode, how in (("nearest", "half_pixel"), ("linear", "align_corners"),
                      ("cubic", "half_pixel"), ("linear", "asymmetric")):  # fmt: skip
        yield f"Resize {mode} {how}", _op("Resize", None, np.float32([1, 1, 1.5, 2]), mode=mode,
                                          coordinate_transformation_mode=how)  # fmt: skip


def _join_split(b: Builder, x: str, sizes: list[int]) -> str:
    first = b.op("Split", x, b.constant(_ints(*sizes)), outputs=len(sizes), axis=1)
    rest = [f"{first}_{i}" for i in range(1, len(sizes))]
    return b.op("Concat", *rest[::-1], b.op("Relu", first), axis=1)


def reductions() -> Iterator[Case]:
    ones, some = np.ones(C, np.float32), np.random.default_rng(2).normal(size=C).astype(np.float32)
    yield "BatchNormalization", _op("BatchNormalization", ones * 2, some, some, ones * 0.5)
    yield "InstanceNormalization", _op("InstanceNormalization", ones, some)
    yield "LayerNormalization", _op("LayerNormalization", np.ones(S, np.float32), axis=-1)
    yield "LRN", _op("LRN", size=3)
    yield "LpNormalization", _op("LpNormalization", axis=1, p=2)
    for op in ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2"):
        for axes in ((2, 3), (-1,), (1,)):
            yield f"{op} {axes}", _op(op, _ints(*axes), keepdims=1)
    yield "ReduceMean without its axes", lambda b, x: b.op(
        "Unsqueeze", b.op("ReduceMean", x, b.constant(_ints(2, 3)), keepdims=0),
        b.constant(_ints(2, 3)),
    )  # fmt: skip


def cases() -> list[Case]:
    """All of them; names are unique."""
    families = (convolutions, pools, arithmetic, activations, movements, reductions)
    return [case for family in families for case in family()]


def build(part: Part, *, opset: int, batch: int | str) -> onnx.ModelProto:
    """A Conv, the part, and a classifier behind a global pooling."""
    b = Builder(seed=7)
    y = part(b, b.conv_relu("x", 3, C) if len(b.nodes) else b.conv("x", 3, C))
    probe = b.model(y, ["N", 3, S, S], opset=opset)
    channels = probe.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    b.op("Conv", y, b.noise(6, channels, 1, 1), b.noise(6))
    b.op("GlobalAveragePool", b.nodes[-1].output[0])
    b.op("Flatten", b.nodes[-1].output[0])
    b.op("Gemm", b.nodes[-1].output[0], b.noise(4, 6), b.noise(4), transB=1)
    return b.model(b.nodes[-1].output[0], [batch, 3, S, S], opset=opset)


def rename(proto: onnx.ModelProto, change: Callable[[str], str]) -> onnx.ModelProto:
    """Give every node, value and constant another name."""
    graph = proto.graph
    for node in graph.node:
        node.name = change(node.name)
        for names in (node.input, node.output):
            names[:] = [name and change(name) for name in names]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = change(value.name)
    return proto


def with_weights_as_inputs(proto: onnx.ModelProto) -> onnx.ModelProto:
    """List every initializer as an input with a default, as IR version 3 wants it."""
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in proto.graph.initializer
    )
    return proto
