"""Small networks of every kind that once broke: Softmax to the layers in front of a float tail.

A case is a function that returns a model; `CASES` has them all, by kind and name.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.contracts.nets import Builder


def ints(*a):
    return np.array(a, np.int64)


def reals(*a):
    return np.array(a, np.float32)


CASES = {}


def sib(kind, **kw):
    def deco(f):
        CASES[f"{kind}/{f.__name__}"] = (f, kw)
        return f

    return deco


def tokens(b, c=8, x="x", inp=3):
    y = b.conv_relu(x, inp, c, strides=[4, 4])
    return b.op("Transpose", b.op("Reshape", y, b.constant(ints(0, c, 16))), perm=[0, 2, 1])


def end(b, y, n, classes=5):
    flat = b.op("Reshape", y, b.constant(ints(0, -1)))
    return b.op("Gemm", flat, b.noise(classes, n), b.noise(classes), transB=1)


def port(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


# ---- softmax
@sib("softmax")
def dfl_opset11():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 64, 1)
    y = b.op("Reshape", y, b.constant(ints(0, 4, 16, 256)))
    y = b.op("Transpose", y, perm=[0, 1, 3, 2])
    y = b.op("Softmax", y, axis=3)
    y = b.op("Transpose", y, perm=[0, 3, 1, 2])
    y = b.op("Conv", y, b.constant(np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1)))
    return b.model(b.op("Reshape", y, b.constant(ints(0, 4, 256))), opset=11)


@sib("softmax")
def gate_in_residual():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    s = b.op("Softmax", b.conv(y, 8, 8), axis=1)
    z = b.op("Add", b.op("Mul", y, s), y)
    return b.model(b.head(b.conv_relu(z, 8, 8), 8))


@sib("softmax")
def twice_read_and_output():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    s = b.op("Softmax", b.conv(y, 8, 8), axis=1)
    return b.model([b.head(b.conv_relu(b.op("Concat", s, y, axis=1), 16, 8), 8), s], [1, 3, 16, 16])


@sib("softmax")
def log_softmax_inside():
    b = Builder()
    y = b.op("LogSoftmax", b.conv(b.conv_relu("x", 3, 8), 8, 8), axis=1)
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [4, 3, 16, 16])


@sib("softmax")
def spatial_old_flatten():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 8)
    s = b.op("Softmax", y, axis=2)
    return b.model(b.head(b.conv_relu(s, 8, 8), 8), opset=12)


@sib("softmax")
def written_out():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 8)
    e = b.op("Exp", b.op("Sub", y, b.op("ReduceMax", y, axes=[1])))
    s = b.op("Div", e, b.op("ReduceSum", e, b.constant(ints(1))))
    return b.model(b.head(b.conv_relu(s, 8, 8), 8))


@sib("softmax")
def classifier_then_weighted_sum():
    b = Builder()
    y = b.head(b.conv_relu("x", 3, 8), 8, 101)
    s = b.op("Softmax", y, axis=1)
    return b.model(b.op("MatMul", s, b.constant(np.arange(101, dtype=np.float32).reshape(101, 1))))


@sib("softmax")
def softmax_conv_output_shared():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 8)
    s = b.op("Softmax", y, axis=1)
    return b.model(
        [
            b.op(
                "MatMul",
                b.op("Reshape", s, b.constant(ints(0, 8, 256))),
                b.op("Transpose", b.op("Reshape", y, b.constant(ints(0, 8, 256))), perm=[0, 2, 1]),
            )
        ]
    )


# ---- matmul of stacked
@sib("matmul3d")
def broadcast_stack():
    b = Builder()
    t = b.op("Unsqueeze", tokens(b), b.constant(ints(1)))
    y = b.op("MatMul", t, b.noise(4, 8, 6))
    return b.model(end(b, y, 4 * 16 * 6))


@sib("matmul3d")
def left_constant():
    b = Builder()
    h = b.op("Reshape", tokens(b), b.constant(ints(0, 4, 4, 8)))
    y = b.op("MatMul", b.noise(4, 6, 4), h)
    return b.model(end(b, y, 4 * 6 * 8))


@sib("matmul3d")
def einsum_constant():
    b = Builder()
    h = b.op("Reshape", tokens(b), b.constant(ints(0, 4, 4, 8)))
    y = b.op("Einsum", h, b.noise(4, 8, 6), equation="bhid,hdk->bhik")
    return b.model(end(b, y, 4 * 4 * 6))


@sib("matmul3d")
def einsum_matrix():
    b = Builder()
    y = b.op("Einsum", tokens(b), b.noise(8, 6), equation="btc,cd->btd")
    return b.model(end(b, b.op("Relu", y), 16 * 6))


@sib("matmul3d")
def equal_matrices():
    b = Builder()
    w = np.random.default_rng(0).normal(size=(1, 8, 6)).astype("f4").repeat(4, 0)
    h = b.op("Reshape", tokens(b), b.constant(ints(0, 4, 4, 8)))
    y = b.op("MatMul", h, b.constant(w))
    return b.model(end(b, y, 4 * 4 * 6))


@sib("matmul3d")
def expanded_by_node():
    b = Builder()
    w = b.op("Expand", b.noise(1, 8, 6), b.constant(ints(4, 8, 6)))
    h = b.op("Reshape", tokens(b), b.constant(ints(0, 4, 4, 8)))
    y = b.op("Add", b.op("MatMul", h, w), b.noise(6))
    return b.model(end(b, y, 4 * 4 * 6))


@sib("matmul3d")
def half_constant_transposed():
    b = Builder()
    w = b.op(
        "Transpose",
        b.op(
            "Cast", b.constant(np.random.default_rng(0).normal(size=(4, 6, 8)).astype("f2")), to=1
        ),
        perm=[0, 2, 1],
    )
    h = b.op("Reshape", tokens(b), b.constant(ints(0, 4, 4, 8)))
    y = b.op("MatMul", h, w)
    return b.model(end(b, y, 4 * 4 * 6))


@sib("matmul3d")
def only_output():
    b = Builder()
    h = b.op("Reshape", tokens(b), b.constant(ints(0, 4, 4, 8)))
    return b.model(b.op("MatMul", h, b.noise(4, 8, 6)))


@sib("matmul3d")
def batch_fixed_stack():
    b = Builder()
    y = b.op(
        "MatMul",
        tokens(b),
        b.constant(np.random.default_rng(0).normal(size=(1, 8, 6)).astype("f4").repeat(4, 0)),
    )
    return b.model(end(b, y, 16 * 6), [4, 3, 16, 16])


@sib("matmul3d")
def batch_fixed_stack_different():
    b = Builder()
    y = b.op("MatMul", tokens(b), b.noise(4, 8, 6))
    return b.model(end(b, y, 16 * 6), [4, 3, 16, 16])


# ---- maxpool idx
def mp(b, x, **k):
    p = b.op("MaxPool", x, outputs=2, **{"kernel_shape": [2, 2], "strides": [2, 2], **k})
    return p, p + "_1"


@sib("indices")
def unpool_by_scatter():
    b = Builder()
    p, i = mp(b, b.conv_relu("x", 3, 8))
    flat = b.op("Reshape", b.conv_relu(p, 8, 8), b.constant(ints(-1)))
    idx = b.op("Reshape", i, b.constant(ints(-1)))
    z = b.op("ScatterElements", b.constant(np.zeros(8 * 256, "f4")), idx, flat, axis=0)
    return b.model(b.conv(b.op("Reshape", z, b.constant(ints(1, 8, 16, 16))), 8, 4), [1, 3, 16, 16])


@sib("indices")
def indices_as_numbers():
    b = Builder()
    p, i = mp(b, b.conv_relu("x", 3, 8))
    f = b.op("Div", b.op("Cast", i, to=1), b.constant(reals(2048)))
    return b.model(b.head(b.conv_relu(b.op("Add", b.conv(p, 8, 8), f), 8, 8), 8), [1, 3, 16, 16])


@sib("indices")
def column_order_dilated():
    b = Builder()
    p, i = mp(b, b.conv_relu("x", 3, 8), kernel_shape=[3, 3], dilations=[2, 2], storage_order=1)
    m = b.model([b.head(b.conv_relu(p, 8, 8), 8)])
    m.graph.output.append(port(i, None, TensorProto.INT64))
    return onnx.shape_inference.infer_shapes(m)


@sib("indices")
def unpool_residual():
    b = Builder()
    e = b.conv_relu("x", 3, 8)
    p, i = mp(b, e)
    y = b.op("MaxUnpool", b.conv_relu(p, 8, 8), i, kernel_shape=[2, 2], strides=[2, 2])
    y = b.op("Add", y, e)
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [4, 3, 16, 16])


@sib("indices")
def argmax_used_as_onehot():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 8)
    a = b.op("ArgMax", y, axis=1, keepdims=0)
    o = b.op("OneHot", a, b.constant(np.array(8, np.int64)), b.constant(reals(0, 1)), axis=1)
    return b.model(b.head(b.conv_relu(o, 8, 8), 8))


@sib("indices")
def topk_values():
    b = Builder()
    y = b.conv_relu(b.conv_relu("x", 3, 8), 8, 8)
    k = b.op(
        "TopK",
        b.op("Reshape", y, b.constant(ints(0, 8, 256))),
        b.constant(ints(8)),
        outputs=2,
        axis=2,
    )
    return b.model(end(b, k, 64))


# ---- average pool
def ap(name, opset=17, shape=("N", 3, 16, 16), **k):
    def f():
        b = Builder()
        y = b.conv_relu("x", 3, 8)
        p = b.op("AveragePool", y, **k)
        return b.model([b.head(b.conv_relu(p, 8, 8), 8)], list(shape), opset=opset)

    f.__name__ = name
    sib("avgpool")(f)


ap("torch_ceil", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1)
ap(
    "ceil_beyond_pad",
    kernel_shape=[2, 2],
    strides=[3, 3],
    pads=[1, 1, 1, 1],
    ceil_mode=1,
    count_include_pad=1,
    opset=10,
)
ap(
    "dilated19",
    kernel_shape=[3, 3],
    dilations=[2, 2],
    pads=[1, 1, 1, 1],
    count_include_pad=1,
    opset=19,
)
ap("dilated_ceil22", kernel_shape=[3, 3], dilations=[2, 1], strides=[2, 2], ceil_mode=1, opset=22)
ap("uneven_pads_counted", kernel_shape=[3, 3], pads=[1, 0, 2, 1], count_include_pad=1, opset=11)
ap(
    "same_lower_b4",
    kernel_shape=[3, 2],
    auto_pad="SAME_LOWER",
    strides=[2, 2],
    shape=(4, 3, 16, 16),
)
ap("dynamic_size", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, shape=("N", 3, "H", "W"))
ap(
    "dynamic_counted",
    kernel_shape=[3, 3],
    strides=[2, 2],
    ceil_mode=1,
    count_include_pad=1,
    pads=[1, 1, 1, 1],
    shape=(1, 3, "H", "W"),
)


@sib("avgpool")
def pool1d_ceil():
    b = Builder()
    y = b.op("Relu", b.op("Conv", "x", b.noise(8, 2, 3), pads=[1, 1]))
    y = b.op("AveragePool", y, kernel_shape=[3], strides=[2], ceil_mode=1, count_include_pad=1)
    return b.model(b.op("Conv", y, b.noise(4, 8, 1)), ["N", 2, 33])


@sib("avgpool")
def pool3d():
    b = Builder()
    y = b.op("Relu", b.op("Conv", "x", b.noise(8, 1, 3, 3, 3), pads=[1] * 6))
    y = b.op("AveragePool", y, kernel_shape=[2, 2, 2], strides=[2, 2, 2], ceil_mode=1)
    y = b.op("Relu", b.op("Conv", y, b.noise(8, 8, 1, 1, 1)))
    return b.model(b.head(y, 8), ["N", 1, 9, 9, 9])


@sib("avgpool")
def avg_and_max_added_to_output():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    k = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    s = b.op("Add", b.op("AveragePool", y, **k), b.op("MaxPool", y, **k))
    return b.model([s, b.head(b.conv_relu(s, 8, 8), 8)], [1, 3, 17, 17])


@sib("avgpool")
def lp_pool_and_global():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    y = b.op("LpPool", y, kernel_shape=[2, 2], strides=[2, 2])
    return b.model(end(b, b.op("GlobalLpPool", b.conv_relu(y, 8, 8)), 8))


@sib("avgpool")
def reduce_mean_as_pool():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    m = b.op("ReduceMean", y, axes=[3])
    return b.model(b.head(b.conv_relu(b.op("Add", y, m), 8, 8), 8), opset=11)


# ---- fixed batch
@sib("fixed_batch")
def class_token():
    b = Builder()
    t = tokens(b)
    y = b.op("Concat", b.constant(b.draw.normal(size=(1, 1, 8)).astype("f4")), t, axis=1)
    y = b.op("Add", y, b.constant(b.draw.normal(size=(1, 17, 8)).astype("f4")))
    y = b.op("MatMul", y, b.noise(8, 8))
    y = b.op("Gather", y, b.constant(np.array(0)), axis=1)
    return b.model(b.op("Gemm", y, b.noise(8, 5)), [1, 3, 16, 16])


@sib("fixed_batch")
def class_token_expand_shape():
    b = Builder()
    t = tokens(b)
    n = b.op("Gather", b.op("Shape", "x"), b.constant(ints(0)))
    sh = b.op("Concat", n, b.constant(ints(1, 8)), axis=0)
    y = b.op(
        "Concat",
        b.op("Expand", b.constant(b.draw.normal(size=(1, 1, 8)).astype("f4")), sh),
        t,
        axis=1,
    )
    y = b.op("MatMul", y, b.noise(8, 8))
    return b.model(end(b, b.op("Relu", y), 17 * 8))


@sib("fixed_batch")
def class_token_batch4():
    b = Builder()
    t = tokens(b)
    c = np.repeat(b.draw.normal(size=(1, 1, 8)).astype("f4"), 4, 0)
    y = b.op("Concat", b.constant(c), t, axis=1)
    y = b.op("MatMul", y, b.noise(8, 8))
    return b.model(end(b, b.op("Relu", y), 17 * 8), [4, 3, 16, 16])


@sib("fixed_batch")
def zeros_in_the_middle():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    y = b.op("Concat", y, b.constant(np.zeros((1, 4, 16, 16), "f4")), b.conv_relu(y, 8, 4), axis=1)
    return b.model(b.head(b.conv_relu(y, 16, 8), 8), [1, 3, 16, 16])


@sib("fixed_batch")
def zeros_height():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    y = b.op("Concat", y, b.constant(np.zeros((1, 8, 1, 16), "f4")), axis=2)
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [1, 3, 16, 16])


@sib("fixed_batch")
def coordconv():
    b = Builder()
    g = np.stack(np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-1, 1, 16)))[None].astype("f4")
    y = b.op("Concat", "x", b.constant(g), axis=1)
    return b.model(b.head(b.conv_relu(b.conv_relu(y, 5, 8), 8, 8), 8), [1, 3, 16, 16])


@sib("fixed_batch")
def nhwc_pad_channels_tflite():
    b = Builder()
    y = b.conv_relu(b.op("Transpose", "x", perm=[0, 3, 1, 2]), 3, 8)
    h = b.op("Transpose", y, perm=[0, 2, 3, 1])
    c = b.op("Pad", h, b.constant(ints(0, 0, 0, 0, 0, 0, 0, 8)))
    w = b.op("Transpose", b.conv(y, 8, 16), perm=[0, 2, 3, 1])
    y = b.op("PRelu", b.op("Add", c, w), b.constant(np.full((1, 1, 16), 0.2, "f4")))
    y = b.op("Transpose", y, perm=[0, 3, 1, 2])
    return b.model(b.head(b.conv_relu(y, 16, 8), 8), [1, 16, 16, 3])


@sib("fixed_batch")
def prelu_expanded_attr_opset9():
    b = Builder()
    s = b.op("Expand", b.constant(np.full((8, 1, 1), 0.2, "f4")), b.constant(ints(1, 8, 16, 16)))
    y = b.op("PRelu", b.conv("x", 3, 8), s)
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [1, 3, 16, 16], opset=9)


@sib("fixed_batch")
def where_mask():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    m = np.zeros((1, 1, 16, 16), bool)
    m[..., ::2] = True
    y = b.op("Where", b.constant(m), y, b.constant(np.zeros((1, 8, 16, 16), "f4")))
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [1, 3, 16, 16])


@sib("fixed_batch")
def mul_mask_batch4():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    m = np.repeat(b.draw.uniform(0, 1, (1, 8, 16, 16)).astype("f4"), 4, 0)
    y = b.op("Mul", y, b.constant(m))
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [4, 3, 16, 16])


@sib("fixed_batch")
def reshape_batch_first_everywhere():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    y = b.op("Reshape", y, b.constant(ints(4, 2, 4, 16, 16)))
    y = b.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    y = b.op("Reshape", y, b.constant(ints(4, 8, 16, 16)))
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [4, 3, 16, 16])


@sib("fixed_batch")
def shuffle_shufflenet_batch1():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    y = b.op("Reshape", y, b.constant(ints(4, 2, 256)))
    y = b.op("Transpose", y, perm=[1, 0, 2])
    y = b.op("Reshape", y, b.constant(ints(2, -1, 4, 16, 16)))
    a = b.op("Gather", y, b.constant(np.array(0)), axis=0)
    c = b.op("Gather", y, b.constant(np.array(1)), axis=0)
    return b.model(
        b.head(b.conv_relu(b.op("Concat", a, b.conv_relu(c, 4, 4), axis=1), 8, 8), 8),
        [1, 3, 16, 16],
    )


@sib("fixed_batch")
def zeros_like_mul():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    z = b.op("Mul", y, b.constant(reals(0)))
    return b.model(b.head(b.conv_relu(b.op("Concat", y, z, axis=1), 16, 8), 8), [1, 3, 16, 16])


@sib("fixed_batch")
def double_constants():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    c = b.op("Cast", b.constant(b.draw.uniform(0.5, 1, (1, 8, 16, 16))), to=1)
    y = b.op("Mul", y, c)
    return b.model(b.head(b.conv_relu(y, 8, 8), 8), [1, 3, 16, 16])


@sib("fixed_batch")
def squeeze_all_batch1():
    b = Builder()
    y = b.op("GlobalAveragePool", b.conv_relu("x", 3, 8))
    y = b.op("Squeeze", y)
    y = b.op("Unsqueeze", y, b.constant(ints(0)))
    return b.model(b.op("Gemm", y, b.noise(8, 5)), [1, 3, 16, 16])


@sib("fixed_batch")
def batch_only_vector_output():
    b = Builder()
    y = b.op("GlobalAveragePool", b.conv_relu("x", 3, 8))
    y = b.op("Squeeze", y)
    return b.model(b.op("MatMul", y, b.noise(8, 5)), [1, 3, 16, 16])


# ---- ConvTranspose
def ct(name, opset=17, shape=("N", 3, 16, 16), wshape=(8, 8, 4, 4), tail="sum", **k):
    def f():
        b = Builder()
        y = b.conv_relu("x", 3, 8)
        z = b.op(
            "ConvTranspose",
            b.conv_relu(y, 8, 8, strides=[2, 2]),
            b.noise(*wshape),
            b.noise(wshape[1] * k.get("group", 1)),
            **k,
        )
        if tail == "sum":
            z = b.op("Relu", b.op("Add", z, y))
        if tail == "concat":
            z = b.op("Concat", z, y, axis=1)
        if tail == "out":
            return b.model([z], list(shape), opset=opset)
        if tail == "relu":
            z = b.op("Relu", z)
        if tail == "clip":
            z = b.op("Clip", z, b.constant(np.float32(0)), b.constant(np.float32(6)))
        if tail == "prelu":
            z = b.op("PRelu", z, b.constant(np.full((8, 1, 1), 0.3, "f4")))
        return b.model(b.conv(z, 16 if tail == "concat" else 8, 2), list(shape), opset=opset)

    f.__name__ = name
    sib("convtranspose")(f)


ct("k4s2p1", strides=[2, 2], pads=[1, 1, 1, 1], opset=11)
ct("concat", strides=[2, 2], pads=[1, 1, 1, 1], tail="concat", shape=(1, 3, 16, 16))
ct("k2_relu", wshape=(8, 8, 2, 2), strides=[2, 2], tail="relu", shape=(4, 3, 16, 16))
ct(
    "k3_pads0011_prelu",
    wshape=(8, 8, 3, 3),
    strides=[2, 2],
    pads=[0, 0, 1, 1],
    tail="prelu",
    shape=(1, 3, 16, 16),
)
ct(
    "k3_outpad_clip",
    wshape=(8, 8, 3, 3),
    strides=[2, 2],
    pads=[1, 1, 1, 1],
    output_padding=[1, 1],
    tail="clip",
)
ct("depthwise", wshape=(8, 1, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1], group=8, opset=22)
ct("output_shape", wshape=(8, 8, 3, 3), strides=[2, 2], output_shape=[16, 16], shape=(1, 3, 16, 16))
ct("same_upper_out", wshape=(8, 8, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER", tail="out")
ct("dynamic", strides=[2, 2], pads=[1, 1, 1, 1], shape=(1, 3, "H", "W"))


@sib("convtranspose")
def large_ranges():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    w = b.constant((b.draw.normal(size=(8, 8, 3, 3)) * 200).astype("f4"))
    z = b.op(
        "ConvTranspose",
        b.conv_relu(y, 8, 8, strides=[2, 2]),
        w,
        b.constant((b.draw.normal(size=8) * 5000).astype("f4")),
        strides=[2, 2],
        pads=[0, 0, 1, 1],
    )
    z = b.op("Add", z, b.conv(y, 8, 8))
    z = b.op(
        "ConvTranspose",
        b.op("Relu", z),
        b.noise(8, 4, 3, 3),
        b.noise(4),
        strides=[2, 2],
        pads=[0, 0, 1, 1],
    )
    return b.model(b.op("Sigmoid", b.conv(z, 4, 1)), [1, 3, 16, 16])


@sib("convtranspose")
def one_d():
    b = Builder()
    y = b.op("Relu", b.op("Conv", "x", b.noise(8, 2, 3), pads=[1, 1], strides=[2]))
    z = b.op("ConvTranspose", y, b.noise(8, 8, 4), strides=[2], pads=[1, 1])
    return b.model(b.op("Conv", b.op("Relu", z), b.noise(2, 8, 1)), ["N", 2, 32])


@sib("convtranspose")
def then_batchnorm():
    b = Builder()
    y = b.conv_relu("x", 3, 8, strides=[2, 2])
    z = b.op("ConvTranspose", y, b.noise(8, 8, 2, 2), strides=[2, 2])
    z = b.op(
        "BatchNormalization",
        z,
        b.constant(reals(*[1] * 8)),
        b.constant(reals(*[0.1] * 8)),
        b.constant(reals(*[0.2] * 8)),
        b.constant(reals(*[2] * 8)),
    )
    return b.model(b.conv(b.op("Relu", z), 8, 2))


# ---- matmul relu float tail
def tail(name, make, first="MatMul", **mk):
    def f():
        b = Builder()
        y = b.op("Flatten", b.op("GlobalAveragePool", b.conv_relu("x", 3, 8)))
        y = (
            b.op("MatMul", y, b.noise(8, 16))
            if first == "MatMul"
            else b.op("Gemm", y, b.noise(16, 8), b.noise(16), transB=1)
            if first == "Gemm"
            else b.op("Add", b.op("MatMul", y, b.noise(8, 16)), b.noise(16))
        )
        return b.model(make(b, y), **mk)

    f.__name__ = name
    sib("tail")(f)


tail("relu_softplus", lambda b, y: b.op("Softplus", b.op("Relu", y)))
tail(
    "relu_tanh_gemm",
    lambda b, y: b.op("Gemm", b.op("Tanh", b.op("Relu", y)), b.noise(16, 4)),
    "Gemm",
)
tail(
    "clip_tanh",
    lambda b, y: b.op(
        "Tanh", b.op("Clip", y, b.constant(np.float32(0)), b.constant(np.float32(6)))
    ),
)
tail(
    "leaky_l2norm",
    lambda b, y: b.op("LpNormalization", b.op("LeakyRelu", y, alpha=0.1), axis=1, p=2),
    "bias",
)
tail(
    "relu_l2norm_written",
    lambda b, y: (lambda r: b.op("Div", r, b.op("ReduceL2", r, axes=[1])))(b.op("Relu", y)),
    opset=11,
)
tail("relu_output", lambda b, y: b.op("Relu", y))
tail(
    "relu_two_readers",
    lambda b, y: (lambda r: [b.op("Softmax", r, axis=1), b.op("MatMul", r, b.noise(16, 4))])(
        b.op("Relu", y)
    ),
    shape=[4, 3, 16, 16],
)
tail(
    "relu_cast_double",
    lambda b, y: b.op("Cast", b.op("Exp", b.op("Cast", b.op("Relu", y), to=11)), to=1),
)
tail(
    "batchnorm_relu_mul",
    lambda b, y: b.op(
        "Mul",
        b.op(
            "Relu",
            b.op(
                "BatchNormalization",
                y,
                b.constant(np.ones(16, "f4")),
                b.constant(np.zeros(16, "f4")),
                b.constant(np.zeros(16, "f4")),
                b.constant(np.ones(16, "f4")),
            ),
        ),
        b.constant(reals(2)),
    ),
)
tail("relu_pow", lambda b, y: b.op("Pow", b.op("Relu", y), b.constant(np.float32(2))), "bias")
