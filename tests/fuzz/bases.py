"""The valid files that mutations start from: small, and between them most of what files hold."""

from __future__ import annotations

import functools

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

from tests.cli.networks import SMALL, WEIGHTS, model_from
from tests.export.qnets import residual

LEGACY = """<ir_version: 4, opset_import: ["": 9]>
legacy (float[1,3,8,8] x) => (float[1,4] y)
{
    p = Pad<mode="constant", pads=[0,0,1,1,0,0,1,1]>(x)
    a = Conv<kernel_shape=[3,3]>(p, w)
    n = BatchNormalization<epsilon=1e-5>(a, g, s, m, q)
    r = Clip<min=0.0, max=6.0>(n)
    u = Upsample<mode="nearest">(r, scale)
    k = MaxPool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_UPPER">(u)
    d = Dropout<ratio=0.5>(k)
    i = Shape(d)
    j = Gather(i, zero)
    o = Unsqueeze<axes=[0]>(j)
    t = Concat<axis=0>(o, rest)
    f = Reshape(d, t)
    y = Gemm<transB=1, alpha=0.5>(f, v, c)
}"""
NHWC = """<ir_version: 8, opset_import: ["": 17]>
nhwc (float[N,8,8,3] x) => (float[N,4] y, float[N,8,4,4] z)
{
    t = Transpose<perm=[0,3,1,2]>(x)
    a = Conv<kernel_shape=[3,3], auto_pad="SAME_UPPER", strides=[2,2]>(t, w, b)
    r = Relu(a)
    h, l = Split<axis=1>(r, parts)
    s = Sigmoid(l)
    e = Mul(h, s)
    k = Concat<axis=1>(e, l)
    z = Conv<pads=[1,1,1,1], group=8>(k, u)
    i = ConvTranspose<strides=[2,2], kernel_shape=[2,2]>(z, d)
    o = Resize<mode="linear">(i, , , sizes)
    q = Transpose<perm=[0,2,3,1]>(o)
    m = ReduceMean<axes=[1,2], keepdims=0>(q)
    g = MatMul(m, v)
    f = Add(g, c)
    y = Softmax<axis=1>(f)
}"""
LOCAL = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
local (float[N,3,8,8] x) => (float[N,4] y)
{
    a = Conv<pads=[1,1,1,1]>(x, w, b)
    r = local.act(a)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Gemm<transB=1>(f, v, c)
}
<domain: "local", opset_import: ["" : 17]> act (t) => (o) { s = Sigmoid(t) o = Mul(t, s) }"""


def _legacy() -> onnx.ModelProto:
    draw = np.random.default_rng(1)
    shapes = {"w": (4, 3, 3, 3), "g": 4, "s": 4, "m": 4, "v": (4, 256), "c": 4}
    found = {n: draw.normal(0, 0.3, s).astype(np.float32) for n, s in shapes.items()}
    found["q"] = np.ones(4, np.float32)
    found |= {"scale": np.array([1, 1, 2, 2], np.float32), "zero": np.array(0)}
    found["rest"] = np.array([-1])
    return _with(parser.parse_model(LEGACY), found)


def _nhwc() -> onnx.ModelProto:
    draw = np.random.default_rng(2)
    shapes = {"w": (8, 3, 3, 3), "b": 8, "u": (8, 1, 3, 3), "d": (8, 5, 2, 2), "v": (5, 4), "c": 4}
    found = {n: draw.normal(0, 0.3, s).astype(np.float32) for n, s in shapes.items()}
    found |= {"parts": np.array([4, 4]), "sizes": np.array([1, 5, 6, 6])}
    proto = _with(parser.parse_model(NHWC), found)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return proto


def _local() -> onnx.ModelProto:
    draw = np.random.default_rng(3)
    arrays = {n: draw.normal(0, 0.3, s).astype(np.float32) for n, s in WEIGHTS.items()}
    return _with(parser.parse_model(LOCAL), arrays)


def _external() -> onnx.ModelProto:
    """The weights in `net.data`, several tensors in one file."""
    proto = model_from(SMALL, **WEIGHTS)
    offset = 0
    for tensor in proto.graph.initializer:
        length = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entries = {"location": "net.data", "offset": offset, "length": length}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        offset += length
    return proto


def _with(proto: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    helper.set_model_props(proto, {"author": "somebody"})
    return proto


@functools.cache
def bases() -> tuple[bytes, ...]:
    """Each model, serialized."""
    makers = (
        lambda: model_from(SMALL, **WEIGHTS),
        residual().proto,
        _legacy,
        _nhwc,
        _local,
        _external,
    )
    return tuple(make().SerializeToString() for make in makers)


def data_file() -> bytes:
    """What stands in `net.data`."""
    proto = model_from(SMALL, **WEIGHTS)
    return b"".join(tensor.raw_data for tensor in proto.graph.initializer)
