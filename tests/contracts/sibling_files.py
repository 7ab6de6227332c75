"""Channels that differ, inputs, volumes, detectors, Resize and outputs of every kind."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.contracts.nets import Builder
from tests.contracts.sibling_spellings import CASES as CASES
from tests.contracts.sibling_spellings import k
from tests.contracts.siblings import end, ints, port, reals, sib, tokens


def imb(b, x, c_in, c_out=8, ratio=300, kernel=3):
    w = (
        b.draw.normal(size=(c_out, c_in, kernel, kernel)) / (c_in * kernel * kernel) ** 0.5
    ).astype("f4")
    s = np.geomspace(1 / ratio**0.5, ratio**0.5, c_out).astype("f4")
    return b.op(
        "Conv",
        x,
        b.constant(w * s[:, None, None, None]),
        b.constant((b.draw.normal(size=c_out) * 0.3).astype("f4") * s),
        pads=[kernel // 2] * 4,
    ), s


def undo(b, x, s, c_out=8, kernel=3):
    c = len(s)
    w = (b.draw.normal(size=(c_out, c, kernel, kernel)) / (c * kernel * kernel) ** 0.5).astype(
        "f4"
    ) / s[None, :, None, None]
    return b.op("Conv", x, b.constant(w), b.noise(c_out), pads=[kernel // 2] * 4)


def im(name, mid, opset=17, shape=("N", 3, 16, 16), **kw):
    def f():
        b = Builder()
        y, s = imb(b, "x", 3)
        y = mid(b, y, s)
        return b.model(b.head(b.op("Relu", undo(b, y, s)), 8), list(shape), opset=opset)

    f.__name__ = name
    sib("imbalance", **kw)(f)


im("relu", lambda b, y, s: b.op("Relu", y))
im("linear", lambda b, y, s: y, shape=(1, 3, 16, 16))
im("leaky", lambda b, y, s: b.op("LeakyRelu", y, alpha=0.1))
im("prelu", lambda b, y, s: b.op("PRelu", y, b.constant(np.full((8, 1, 1), 0.2, "f4"))), opset=11)
im("maxpool", lambda b, y, s: b.op("MaxPool", b.op("Relu", y), kernel_shape=[2, 2], strides=[2, 2]))
im(
    "avgpool",
    lambda b, y, s: b.op("AveragePool", b.op("Relu", y), kernel_shape=[2, 2], strides=[2, 2]),
)
im(
    "depthwise",
    lambda b, y, s: b.op(
        "Relu",
        b.op(
            "Conv",
            b.op("Relu", y),
            b.noise(8, 1, 3, 3),
            b.constant((b.draw.normal(size=8) * 0.2).astype("f4") * s),
            group=8,
            pads=[1] * 4,
        ),
    ),
)
im(
    "residual",
    lambda b, y, s: (lambda r: b.op("Relu", b.op("Add", r, imb(b, r, 8)[0])))(b.op("Relu", y)),
)
im(
    "pad_resize",
    lambda b, y, s: b.op(
        "Resize",
        b.op("Pad", b.op("Relu", y), b.constant(ints(0, 0, 1, 1, 0, 0, 1, 1))),
        "",
        b.constant(reals(1, 1, 2, 2)),
        mode="nearest",
    ),
)
im("sum_undone_by_two", lambda b, y, s: b.op("Relu", y), shape=(4, 3, 16, 16))
im(
    "affine_between",
    lambda b, y, s: b.op(
        "Relu", b.op("Mul", b.op("Relu", y), b.constant(np.ones((1, 8, 1, 1), "f4") * 0.7))
    ),
)


@sib("imbalance")
def gemm_gemm():
    b = Builder()
    y = b.op("Flatten", b.op("GlobalAveragePool", b.conv_relu("x", 3, 8)))
    s = np.geomspace(0.05, 15, 16).astype("f4")
    y = b.op(
        "Relu",
        b.op(
            "Gemm",
            y,
            b.constant(b.draw.normal(size=(8, 16)).astype("f4") * s),
            b.constant(b.draw.normal(size=16).astype("f4") * s),
        ),
    )
    return b.model(
        b.op("Gemm", y, b.constant(b.draw.normal(size=(16, 5)).astype("f4") / s[:, None]))
    )


@sib("imbalance")
def concat_two():
    b = Builder()
    y, s = imb(b, "x", 3)
    z, t = imb(b, "x", 3, ratio=100)
    y = b.op("Concat", b.op("Relu", y), b.op("Relu", z), axis=1)
    return b.model(b.head(b.op("Relu", undo(b, y, np.concatenate([s, t]))), 8))


@sib("imbalance")
def two_readers():
    b = Builder()
    y, s = imb(b, "x", 3)
    y = b.op("Relu", y)
    return b.model(b.head(b.op("Relu", b.op("Add", undo(b, y, s), undo(b, y, s))), 8))


@sib("imbalance")
def matmul_tokens():
    b = Builder()
    t = tokens(b)
    s = np.geomspace(0.05, 15, 16).astype("f4")
    y = b.op("MatMul", t, b.constant(b.draw.normal(size=(8, 16)).astype("f4") * s))
    y = b.op("Relu", y)
    return b.model(
        end(
            b,
            b.op("MatMul", y, b.constant(b.draw.normal(size=(16, 4)).astype("f4") / s[:, None])),
            64,
        )
    )


@sib("imbalance")
def global_pool_gemm():
    b = Builder()
    y, s = imb(b, "x", 3)
    y = b.op("Flatten", b.op("GlobalAveragePool", b.op("Relu", y)))
    return b.model(
        b.op("Gemm", y, b.constant(b.draw.normal(size=(8, 5)).astype("f4") / s[:, None]))
    )


# ---- inputs
def backbone(b, y, c=3):
    return b.head(b.conv_relu(b.conv_relu(y, c, 8), 8, 8), 8)


def us(b, y, a=0):
    return b.op("Unsqueeze", y, b.constant(ints(a)))


@sib("inputs")
def chw_float_identity():
    b = Builder()
    return b.model(backbone(b, us(b, b.op("Identity", "x"))), [3, 16, 16])


@sib("inputs")
def hwc_uint8_reshape():
    b = Builder()
    y = b.op("Cast", "x", to=1)
    y = b.op("Reshape", y, b.constant(ints(1, 16, 16, 3)))
    y = b.op("Transpose", y, perm=[0, 3, 1, 2])
    return b.model(
        backbone(b, b.op("Mul", b.op("Sub", y, k(b, 127.5)), k(b, 1 / 127.5))),
        [16, 16, 3],
        kind=TensorProto.UINT8,
    )


@sib("inputs")
def hwc_dynamic():
    b = Builder()
    y = b.op("Transpose", b.op("Cast", "x", to=1), perm=[2, 0, 1])
    y = b.op("Div", us(b, y), k(b, 255))
    return b.model(b.conv(b.conv_relu(y, 3, 8), 8, 2), ["H", "W", 3], kind=TensorProto.UINT8)


@sib("inputs")
def spectrogram_tf():
    b = Builder()
    y = us(b, us(b, "x"))
    return b.model(backbone(b, y, 1), [40, 98])


@sib("inputs")
def chw_opset11():
    b = Builder()
    y = b.op("Unsqueeze", b.op("Sub", "x", b.constant(np.full((3, 1, 1), 0.5, "f4"))), axes=[0])
    return b.model(b.op("Squeeze", backbone(b, y), axes=[0]), [3, 16, 16], opset=11)


@sib("inputs")
def unused_bool_before():
    b = Builder()
    m = b.model(backbone(b, "x"))
    m.graph.input.insert(0, port("flag", [], TensorProto.BOOL))
    return m


@sib("inputs", given={"size": "[16,16]"})
def size_vector():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 4)
    z = b.op("Mul", b.op("Reshape", y, b.constant(ints(0, -1, 2))), b.op("Cast", "size", to=1))
    return b.model(z, more=[port("size", [2], TensorProto.INT64)])


@sib("inputs", given={"scale": "[[1.0,0.5]]"})
def scale_factor_paddle():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 4)
    z = b.op(
        "Div",
        b.op("Reshape", y, b.constant(ints(0, -1, 2))),
        b.op("Unsqueeze", "scale", b.constant(ints(1))),
    )
    return b.model(z, [1, 3, 16, 16], more=[port("scale", [1, 2])])


@sib("inputs", given={"t": "0.5"})
def timestep_embedding():
    b = Builder()
    e = b.op(
        "Gemm",
        b.op("Sin", b.op("Mul", b.op("Unsqueeze", "t", b.constant(ints(1))), b.noise(1, 8))),
        b.noise(8, 8),
    )
    y = b.conv_relu("x", 3, 8)
    y = b.op("Add", y, b.op("Unsqueeze", e, b.constant(ints(2, 3))))
    return b.model(b.conv(b.conv_relu(y, 8, 8), 8, 3), more=[port("t", ["N"])])


@sib("inputs", given={"z": "0.5"})
def siamese_given():
    b = Builder()
    w, bb = b.noise(8, 3, 3, 3), b.noise(8)
    p = b.op("Relu", b.op("Conv", "x", w, bb, pads=[1] * 4))
    q = b.op("Relu", b.op("Conv", "z", w, bb, pads=[1] * 4))
    q = b.op("GlobalAveragePool", q)
    return b.model(b.conv(b.op("Mul", p, q), 8, 2), more=[port("z", ["N", 3, 8, 8])])


@sib("inputs", given={"mask": "1.0"})
def mask_input():
    b = Builder()
    y = b.op("Concat", "x", "mask", axis=1)
    return b.model(
        b.conv(b.conv_relu(y, 4, 8), 8, 3), [1, 3, 16, 16], more=[port("mask", [1, 1, 16, 16])]
    )


@sib("inputs", given={"h": "0"})
def recurrent_state():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    hn = b.op("Tanh", b.conv(b.op("Concat", y, "h", axis=1), 16, 8))
    return b.model([b.conv(hn, 8, 2), hn], [1, 3, 16, 16], more=[port("h", [1, 8, 16, 16])])


@sib("inputs")
def dynamic_depthwise_b1():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    ww = b.op(
        "Reshape",
        b.op("Conv", b.op("GlobalAveragePool", y), b.noise(72, 8, 1, 1)),
        b.constant(ints(8, 1, 3, 3)),
    )
    z = b.op("Conv", y, ww, group=8, pads=[1] * 4)
    return b.model(b.head(b.conv_relu(z, 8, 8), 8), [1, 3, 16, 16])


@sib("inputs")
def dynamic_matmul_batch():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    fl = b.op("Reshape", y, b.constant(ints(0, 8, 256)))
    kern = b.op(
        "Reshape",
        b.op("Gemm", b.op("Flatten", b.op("GlobalAveragePool", y)), b.noise(8, 64)),
        b.constant(ints(0, 8, 8)),
    )
    z = b.op("MatMul", kern, fl)
    return b.model(b.head(b.conv_relu(b.op("Reshape", z, b.constant(ints(0, 8, 16, 16))), 8, 8), 8))


@sib("inputs")
def batch4_two_outputs():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    return b.model([b.head(y, 8), b.op("Shape", y)] if 0 else [b.head(y, 8), y], [4, 3, 16, 16])


# ---- conv3d
@sib("conv3d")
def deep_channels():
    b = Builder()

    def c(y, i, o, kk=3, **q):
        return b.op(
            "Relu",
            b.op(
                "Conv",
                y,
                b.noise(o, i // q.get("group", 1), kk, kk, kk),
                b.noise(o),
                pads=[kk // 2] * 6,
                **q,
            ),
        )

    y = c("x", 1, 16)
    y = b.op("MaxPool", y, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    y = c(y, 16, 16)
    y = b.op("Add", y, c(y, 16, 16, 1))
    return b.model(b.head(y, 16), [1, 1, 8, 8, 8])


@sib("conv3d")
def r2plus1d():
    b = Builder()
    y = b.op("Relu", b.op("Conv", "x", b.noise(16, 3, 1, 3, 3), pads=[0, 1, 1, 0, 1, 1]))
    y = b.op("Relu", b.op("Conv", y, b.noise(16, 16, 3, 1, 1), pads=[1, 0, 0, 1, 0, 0]))
    y = b.op("Conv", y, b.noise(16, 1, 3, 3, 3), group=16, pads=[1] * 6)
    return b.model(b.head(y, 16), ["N", 3, 8, 12, 12], opset=11)


@sib("conv3d")
def unet3d_bn():
    b = Builder()
    y = b.op("Conv", "x", b.noise(8, 1, 3, 3, 3), pads=[1] * 6)
    y = b.op("BatchNormalization", y, *[b.constant(np.full(8, v, "f4")) for v in (1, 0.1, 0.1, 1)])
    y = b.op("Relu", y)
    d = b.op("MaxPool", y, kernel_shape=[2] * 3, strides=[2] * 3)
    u = b.op(
        "ConvTranspose",
        b.op("Relu", b.op("Conv", d, b.noise(16, 8, 3, 3, 3), pads=[1] * 6)),
        b.noise(16, 8, 2, 2, 2),
        strides=[2] * 3,
    )
    return b.model(
        b.op("Conv", b.op("Concat", u, y, axis=1), b.noise(2, 16, 1, 1, 1)), [1, 1, 8, 8, 8]
    )


@sib("conv3d")
def frames_to_2d():
    b = Builder()
    y = b.op(
        "Reshape", b.op("Transpose", "x", perm=[0, 2, 1, 3, 4]), b.constant(ints(-1, 3, 12, 12))
    )
    y = b.conv_relu(y, 3, 8)
    y = b.op("Reshape", b.op("GlobalAveragePool", y), b.constant(ints(-1, 4, 8)))
    return b.model(
        b.op(
            "Gemm",
            b.op("Squeeze", b.op("ReduceMean", y, axes=[1]), b.constant(ints(1))),
            b.noise(8, 5),
        ),
        ["N", 3, 4, 12, 12],
    )


@sib("conv3d")
def conv1d_net():
    b = Builder()
    y = b.op("Relu", b.op("Conv", "x", b.noise(8, 1, 9), strides=[4]))
    y = b.op("Relu", b.op("Conv", y, b.noise(8, 8, 3), dilations=[2], pads=[2, 2]))
    return b.model(b.op("Conv", y, b.noise(4, 8, 1)), [1, 1, 400])


# ---- detectors
@sib("detector")
def rows_by_numbers_squeezed():
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 21, 1, strides=[4, 4])
    y = b.op("Transpose", b.op("Reshape", y, b.constant(ints(1, 3, 7, 16))), perm=[0, 1, 3, 2])
    y = b.op("Reshape", y, b.constant(ints(-1, 7)))
    xy = b.op(
        "Sigmoid", b.op("Slice", y, b.constant(ints(0)), b.constant(ints(2)), b.constant(ints(1)))
    )
    wh = b.op(
        "Exp", b.op("Slice", y, b.constant(ints(2)), b.constant(ints(4)), b.constant(ints(1)))
    )
    c = b.op(
        "Sigmoid", b.op("Slice", y, b.constant(ints(4)), b.constant(ints(7)), b.constant(ints(1)))
    )
    return b.model(b.op("Concat", xy, wh, c, axis=1), [1, 3, 16, 16])


@sib("detector")
def three_scales_axis0():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    outs = []
    for s in (2, 4):
        z = b.conv(y, 8, 6, 1, strides=[s, s])
        outs.append(
            b.op("Reshape", b.op("Transpose", z, perm=[0, 2, 3, 1]), b.constant(ints(-1, 6)))
        )
    return b.model(b.op("Concat", *outs, axis=0), [1, 3, 16, 16])


@sib("detector")
def boxes_and_scores_squeezed():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    z = b.op(
        "Transpose",
        b.op("Reshape", b.conv(y, 8, 9, 1), b.constant(ints(1, 9, 256))),
        perm=[0, 2, 1],
    )
    z = b.op("Squeeze", z, b.constant(ints(0)))
    bx = b.op("Slice", z, b.constant(ints(0)), b.constant(ints(4)), b.constant(ints(1)))
    sc = b.op(
        "Softmax",
        b.op("Slice", z, b.constant(ints(4)), b.constant(ints(9)), b.constant(ints(1))),
        axis=1,
    )
    return b.model([bx, sc], [1, 3, 16, 16])


@sib("detector")
def topk_rows():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    z = b.op(
        "Reshape", b.op("Transpose", b.conv(y, 8, 5, 1), perm=[0, 2, 3, 1]), b.constant(ints(-1, 5))
    )
    sc = b.op(
        "Reshape",
        b.op("Slice", z, b.constant(ints(4)), b.constant(ints(5)), b.constant(ints(1))),
        b.constant(ints(-1)),
    )
    t = b.op("TopK", sc, b.constant(ints(10)), outputs=2)
    m = b.model([b.op("Gather", z, t + "_1", axis=0), t], [1, 3, 16, 16])
    return m


@sib("detector")
def nms_end():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    bx = b.op(
        "Transpose",
        b.op("Reshape", b.conv(y, 8, 4, 1), b.constant(ints(1, 4, 256))),
        perm=[0, 2, 1],
    )
    sc = b.op("Sigmoid", b.op("Reshape", b.conv(y, 8, 2, 1), b.constant(ints(1, 2, 256))))
    n = b.op(
        "NonMaxSuppression",
        bx,
        sc,
        b.constant(ints(10)),
        b.constant(reals(0.5)),
        b.constant(reals(0.1)),
    )
    m = b.model([bx], [1, 3, 16, 16])
    m.graph.output.append(port(n, None, TensorProto.INT64))
    return onnx.shape_inference.infer_shapes(m)


@sib("detector")
def keypoints_matrix():
    b = Builder()
    y = b.head(b.conv_relu("x", 3, 8), 8, 42)
    y = b.op("Reshape", y, b.constant(ints(21, 2)))
    return b.model(y, [1, 3, 16, 16])


@sib("detector")
def rows_free_batch():
    b = Builder()
    y = b.op(
        "Reshape",
        b.op(
            "Transpose", b.conv(b.conv_relu("x", 3, 8), 8, 6, 1, strides=[4, 4]), perm=[0, 2, 3, 1]
        ),
        b.constant(ints(-1, 6)),
    )
    return b.model(b.op("Sigmoid", y))


# ---- resize
def rs(name, make, opset, shape=("N", 3, 16, 16)):
    def f():
        b = Builder()
        y = b.conv_relu("x", 3, 8)
        return b.model(b.conv(b.conv_relu(make(b, y), 8, 8), 8, 2), list(shape), opset=opset)

    f.__name__ = name
    sib("resize")(f)


def e(b):
    return b.constant(np.zeros(0, "f4"))


rs("r10", lambda b, y: b.op("Resize", y, b.constant(reals(1, 1, 2, 2)), mode="nearest"), 10)
rs(
    "r10_linear",
    lambda b, y: b.op("Resize", y, b.constant(reals(1, 1, 2, 2)), mode="linear"),
    10,
    (1, 3, 16, 16),
)
rs(
    "r11_empty_roi",
    lambda b, y: b.op(
        "Resize",
        y,
        e(b),
        b.constant(reals(1, 1, 2, 2)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    11,
)
rs(
    "r11_sizes_empty_scales",
    lambda b, y: b.op(
        "Resize",
        y,
        e(b),
        e(b),
        b.constant(ints(1, 8, 32, 32)),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    11,
    (1, 3, 16, 16),
)
rs(
    "r12_sizes_from_shape",
    lambda b, y: b.op(
        "Resize",
        y,
        e(b),
        e(b),
        b.op(
            "Concat",
            b.op(
                "Slice",
                b.op("Shape", y),
                b.constant(ints(0)),
                b.constant(ints(2)),
                b.constant(ints(0)),
            ),
            b.op(
                "Mul",
                b.op(
                    "Slice",
                    b.op("Shape", y),
                    b.constant(ints(2)),
                    b.constant(ints(4)),
                    b.constant(ints(0)),
                ),
                b.constant(ints(2, 2)),
            ),
            axis=0,
        ),
        mode="nearest",
    ),
    12,
    ("N", 3, "H", "W"),
)
rs(
    "r13_empty_all_cubic",
    lambda b, y: b.op(
        "Resize", y, e(b), b.constant(reals(1, 1, 1.5, 1.5)), mode="cubic", cubic_coeff_a=-0.5
    ),
    13,
)
rs(
    "r13_crop",
    lambda b, y: b.op(
        "Resize",
        y,
        b.constant(reals(0, 0, 0.1, 0.1, 1, 1, 0.9, 0.9)),
        b.constant(reals(1, 1, 2, 2)),
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    ),
    13,
)
rs(
    "r18_axes",
    lambda b, y: b.op(
        "Resize",
        y,
        "",
        "",
        b.constant(ints(24, 20)),
        mode="linear",
        axes=[2, 3],
        keep_aspect_ratio_policy="not_larger",
    ),
    18,
)
rs(
    "r18_odd",
    lambda b, y: b.op(
        "Resize",
        y,
        "",
        "",
        b.constant(ints(9, 13)),
        mode="linear",
        axes=[2, 3],
        keep_aspect_ratio_policy="not_smaller",
    ),
    18,
    ("N", 3, 15, 19),
)
rs(
    "r18_unfit",
    lambda b, y: b.op(
        "Resize",
        y,
        "",
        "",
        b.constant(ints(11, 13)),
        mode="linear",
        axes=[2, 3],
        keep_aspect_ratio_policy="not_smaller",
    ),
    18,
    (1, 3, 15, 19),
)
rs(
    "r19_antialias",
    lambda b, y: b.op(
        "Resize", y, "", b.constant(reals(0.5, 0.5)), mode="linear", axes=[2, 3], antialias=1
    ),
    19,
)
rs("upsample9", lambda b, y: b.op("Upsample", y, b.constant(reals(1, 1, 2, 2)), mode="nearest"), 9)
rs("upsample7", lambda b, y: b.op("Upsample", y, scales=[1.0, 1.0, 2.0, 2.0], mode="linear"), 7)
rs(
    "r11_round_ceil",
    lambda b, y: b.op(
        "Resize",
        y,
        e(b),
        b.constant(reals(1, 1, 1.3, 2)),
        mode="nearest",
        nearest_mode="ceil",
        coordinate_transformation_mode="half_pixel",
    ),
    11,
)
rs(
    "r10_down",
    lambda b, y: b.op("Resize", y, b.constant(reals(1, 1, 0.5, 0.5)), mode="nearest"),
    10,
)


# ---- outputs
@sib("outputs")
def input_twice_out():
    b = Builder()
    y = b.head(b.conv_relu("x", 3, 8), 8)
    m = b.model(y)
    m.graph.output.append(port("x", ["N", 3, 16, 16]))
    return m


@sib("outputs")
def input_identity_named():
    b = Builder()
    i = b.op("Identity", "x")
    return b.model([i, b.head(b.conv_relu("x", 3, 8), 8)], [1, 3, 16, 16])


@sib("outputs")
def input_transposed():
    b = Builder()
    return b.model([b.op("Transpose", "x", perm=[0, 2, 3, 1]), b.head(b.conv_relu("x", 3, 8), 8)])


@sib("outputs")
def input_normalized_out():
    b = Builder()
    n = b.op("Div", b.op("Sub", "x", k(b, 127.5)), k(b, 127.5))
    return b.model([n, b.head(b.conv_relu(n, 3, 8), 8)])


@sib("outputs")
def uint8_echo():
    b = Builder()
    y = b.head(b.conv_relu(b.op("Div", b.op("Cast", "x", to=1), k(b, 255)), 3, 8), 8)
    m = b.model(y, kind=TensorProto.UINT8)
    m.graph.output.append(port("x", ["N", 3, 16, 16], TensorProto.UINT8))
    return m


@sib("outputs")
def initializer_out():
    b = Builder()
    b.constant(np.arange(5, dtype="f4"), "anchors")
    m = b.model(b.head(b.conv_relu("x", 3, 8), 8))
    m.graph.output.append(port("anchors", [5]))
    return m


@sib("outputs")
def every_layer_out():
    b = Builder()
    outs = []
    y = "x"
    for i, c in ((3, 8), (8, 8), (8, 8)):
        y = b.conv(y, i, c)
        outs.append(y)
        y = b.op("Relu", y)
        outs.append(y)
    return b.model([*outs, b.head(y, 8)], [4, 3, 16, 16])


@sib("outputs")
def residual_operand_out():
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    z = b.conv(y, 8, 8)
    s = b.op("Add", y, z)
    return b.model([z, s, b.op("Relu", s)])


@sib("outputs")
def dtype_outputs():
    b = Builder()
    y = b.head(b.conv_relu("x", 3, 8), 8)
    m = b.model(y)
    for nm, to, kind in (("h", 10, TensorProto.FLOAT16), ("d", 11, TensorProto.DOUBLE)):
        m.graph.node.append(helper.make_node("Cast", [y], [nm], to=to))
        m.graph.output.append(port(nm, ["N", 5], kind))
    m.graph.node.append(helper.make_node("ArgMax", [y], ["lab"], axis=1))
    m.graph.output.append(port("lab", ["N", 1], TensorProto.INT64))
    return m


@sib("outputs")
def output_shape_of():
    b = Builder()
    y = b.head(b.conv_relu("x", 3, 8), 8)
    m = b.model(y)
    m.graph.node.append(helper.make_node("Shape", ["x"], ["size"]))
    m.graph.output.append(port("size", [4], TensorProto.INT64))
    return m
