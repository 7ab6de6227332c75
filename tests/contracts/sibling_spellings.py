"""Activations, normalizations and attention as exporters spell them."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from tests.contracts.nets import Builder
from tests.contracts.siblings import CASES as CASES
from tests.contracts.siblings import end, ints, sib, tokens


# ---- activations
def act(name, make, opset=17, shape=("N", 3, 16, 16), kind="acts", c=8):
    def f():
        b = Builder()
        y = b.conv("x", 3, c)
        return b.model(b.head(b.conv_relu(make(b, y), c, 8), 8), list(shape), opset=opset)

    f.__name__ = name
    sib(kind)(f)


def k(b, v, s=()):
    return b.constant(np.full(s, v, np.float32))


def relu6(b, y):
    return b.op("Clip", y, k(b, 0), k(b, 6))


act(
    "hs_torch", lambda b, y: b.op("Div", b.op("Mul", y, relu6(b, b.op("Add", y, k(b, 3)))), k(b, 6))
)
act(
    "hs_paddle",
    lambda b, y: b.op(
        "Mul", y, b.op("Div", relu6(b, b.op("Add", y, k(b, 3, (1,)))), k(b, 6, (1,)))
    ),
    opset=11,
)
act(
    "hs_keras",
    lambda b, y: b.op("Mul", b.op("Mul", relu6(b, b.op("Add", y, k(b, 3))), k(b, 1 / 6)), y),
    opset=13,
)
act(
    "hs_reversed",
    lambda b, y: b.op(
        "Mul",
        b.op("Mul", k(b, 1 / 6, (1, 1, 1, 1)), relu6(b, b.op("Add", k(b, 3, (1, 1, 1, 1)), y))),
        y,
    ),
)
act(
    "hs_clip6attr",
    lambda b, y: b.op(
        "Mul", y, b.op("Div", b.op("Clip", b.op("Add", y, k(b, 3)), min=0.0, max=6.0), k(b, 6))
    ),
    opset=9,
)
act(
    "hs_hardsigmoid",
    lambda b, y: b.op("Mul", b.op("HardSigmoid", y, alpha=1 / 6, beta=0.5), y),
    opset=8,
)
act(
    "hs_relu_min",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op("Mul", b.op("Min", b.op("Relu", b.op("Add", y, k(b, 3))), k(b, 6)), k(b, 1 / 6)),
    ),
)
act(
    "hs_maxmin",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op("Div", b.op("Max", b.op("Min", b.op("Add", y, k(b, 3)), k(b, 6)), k(b, 0)), k(b, 6)),
    ),
)
act(
    "hs_sub_minus3",
    lambda b, y: b.op("Mul", y, b.op("Div", relu6(b, b.op("Sub", y, k(b, -3))), k(b, 6))),
)
act("hs_op", lambda b, y: b.op("HardSwish", y), opset=14, shape=(1, 3, 16, 16))
act("hs_shared", lambda b, y: b.op("Add", y, b.op("HardSwish", y)), opset=14)
act(
    "hs_clip_scaled",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op("Clip", b.op("Add", b.op("Mul", y, k(b, 1 / 6)), k(b, 0.5)), k(b, 0), k(b, 1)),
    ),
)


def hs_const_nodes(b, y):
    def cn(v):
        n = f"k{len(b.nodes)}"
        b.nodes.append(
            helper.make_node("Constant", [], [n], value=numpy_helper.from_array(np.array(v, "f4")))
        )
        return n

    return b.op("Mul", y, b.op("Div", b.op("Clip", b.op("Add", y, cn(3)), cn(0), cn(6)), cn(6)))


act("hs_constant_nodes", hs_const_nodes, opset=12)
act("silu", lambda b, y: b.op("Mul", y, b.op("Sigmoid", y)))
act("silu_div", lambda b, y: b.op("Div", y, b.op("Add", b.op("Exp", b.op("Neg", y)), k(b, 1))))
act(
    "silu_tanh_half",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op("Mul", b.op("Add", b.op("Tanh", b.op("Mul", y, k(b, 0.5))), k(b, 1)), k(b, 0.5)),
    ),
)
act("quick_gelu", lambda b, y: b.op("Mul", y, b.op("Sigmoid", b.op("Mul", y, k(b, 1.702)))))
act("mish", lambda b, y: b.op("Mul", y, b.op("Tanh", b.op("Softplus", y))), opset=11)
act(
    "mish_written",
    lambda b, y: b.op("Mul", y, b.op("Tanh", b.op("Log", b.op("Add", b.op("Exp", y), k(b, 1))))),
    opset=11,
)
act("mish18", lambda b, y: b.op("Mish", y), opset=18)
act(
    "gelu_a",
    lambda b, y: b.op(
        "Mul",
        b.op("Mul", y, b.op("Add", b.op("Erf", b.op("Div", y, k(b, 2**0.5))), k(b, 1))),
        k(b, 0.5),
    ),
)
act(
    "gelu_b",
    lambda b, y: b.op(
        "Mul",
        b.op("Mul", k(b, 0.5), y),
        b.op("Add", k(b, 1), b.op("Erf", b.op("Mul", y, k(b, 2**-0.5)))),
    ),
    opset=11,
)
act(
    "gelu_c",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op(
            "Mul",
            b.op("Add", b.op("Erf", b.op("Mul", y, k(b, 2**-0.5, (1,)))), k(b, 1, (1,))),
            k(b, 0.5, (1,)),
        ),
    ),
)
act(
    "gelu_d_halfadd",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op("Add", b.op("Mul", b.op("Erf", b.op("Mul", y, k(b, 2**-0.5))), k(b, 0.5)), k(b, 0.5)),
    ),
)
act("gelu20", lambda b, y: b.op("Gelu", y), opset=20)
act(
    "gelu_tanh_pow",
    lambda b, y: b.op(
        "Mul",
        b.op("Mul", y, k(b, 0.5)),
        b.op(
            "Add",
            b.op(
                "Tanh",
                b.op(
                    "Mul",
                    b.op("Add", y, b.op("Mul", b.op("Pow", y, k(b, 3)), k(b, 0.044715))),
                    k(b, 0.7978845608),
                ),
            ),
            k(b, 1),
        ),
    ),
)
act(
    "gelu_tanh_mul",
    lambda b, y: b.op(
        "Mul",
        b.op("Mul", y, k(b, 0.5)),
        b.op(
            "Add",
            b.op(
                "Tanh",
                b.op(
                    "Mul",
                    b.op("Mul", y, k(b, 0.7978845608)),
                    b.op("Add", k(b, 1), b.op("Mul", b.op("Mul", y, y), k(b, 0.044715))),
                ),
            ),
            k(b, 1),
        ),
    ),
)
act(
    "gelu_shared_residual",
    lambda b, y: b.op(
        "Add",
        y,
        b.op(
            "Mul",
            b.op("Mul", y, b.op("Add", b.op("Erf", b.op("Div", y, k(b, 2**0.5))), k(b, 1))),
            k(b, 0.5),
        ),
    ),
    shape=(4, 3, 16, 16),
)
act("celu_elu_selu", lambda b, y: b.op("Celu", b.op("Elu", b.op("Selu", y), alpha=0.5), alpha=0.3))
act("softsign_etc", lambda b, y: b.op("Div", y, b.op("Add", b.op("Abs", y), k(b, 1))))
act("leaky_written", lambda b, y: b.op("Max", y, b.op("Mul", y, k(b, 0.1))))
act(
    "prelu_written",
    lambda b, y: b.op(
        "Add",
        b.op("Relu", y),
        b.op(
            "Mul",
            b.op("Neg", b.op("Relu", b.op("Neg", y))),
            b.constant(np.full((8, 1, 1), 0.25, "f4")),
        ),
    ),
)
act(
    "prelu_abs",
    lambda b, y: b.op(
        "Add",
        b.op("Relu", y),
        b.op("Mul", b.op("Sub", y, b.op("Abs", y)), b.constant(np.full((8, 1, 1), 0.125, "f4"))),
    ),
)
act("swish24", lambda b, y: b.op("Swish", y, alpha=1.5), opset=24)
act(
    "se_block",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op(
            "HardSigmoid",
            b.op(
                "Conv",
                b.op("Relu", b.op("Conv", b.op("GlobalAveragePool", y), b.noise(4, 8, 1, 1))),
                b.noise(8, 4, 1, 1),
            ),
            alpha=0.2,
            beta=0.5,
        ),
    ),
)
act(
    "se_block_gemm",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op(
            "Unsqueeze",
            b.op(
                "Sigmoid",
                b.op(
                    "Gemm",
                    b.op(
                        "Relu",
                        b.op(
                            "Gemm",
                            b.op(
                                "Squeeze",
                                b.op("ReduceMean", y, axes=[2, 3]),
                                b.constant(ints(2, 3)),
                            ),
                            b.noise(8, 4),
                        ),
                    ),
                    b.noise(4, 8),
                ),
            ),
            b.constant(ints(2, 3)),
        ),
    ),
)
act(
    "hs_of_se",
    lambda b, y: (
        lambda h: b.op(
            "Mul",
            h,
            b.op(
                "Div",
                b.op(
                    "Clip",
                    b.op(
                        "Add",
                        b.op("Conv", b.op("GlobalAveragePool", h), b.noise(8, 8, 1, 1)),
                        k(b, 3),
                    ),
                    k(b, 0),
                    k(b, 6),
                ),
                k(b, 6),
            ),
        )
    )(b.op("Div", b.op("Mul", y, relu6(b, b.op("Add", y, k(b, 3)))), k(b, 6))),
)
# float16 in the constants: Cast
act(
    "hs_half_consts",
    lambda b, y: b.op(
        "Mul",
        y,
        b.op(
            "Div",
            b.op(
                "Clip",
                b.op("Add", y, b.op("Cast", b.constant(np.float16(3)), to=1)),
                k(b, 0),
                k(b, 6),
            ),
            b.op("Cast", b.constant(np.float64(6)), to=1),
        ),
    ),
)


# ---- layer norm on tokens
def ln(name, make, opset=17, shape=("N", 3, 16, 16)):
    def f():
        b = Builder()
        t = tokens(b)
        y = make(b, b.op("MatMul", t, b.noise(8, 8)))
        y = b.op("MatMul", y, b.noise(8, 8))
        return b.model(end(b, b.op("Relu", y), 128), list(shape), opset=opset)

    f.__name__ = name
    sib("layernorm")(f)


def g(b):
    return b.constant(np.linspace(0.5, 1.5, 8).astype("f4"))


def h(b):
    return b.constant(np.linspace(-0.5, 0.5, 8).astype("f4"))


def rm(b, y, ops):
    return (
        b.op("ReduceMean", y, b.constant(ints(-1)))
        if ops >= 18
        else b.op("ReduceMean", y, axes=[-1])
    )


def torch_ln(ops, sq="pow", var="sqrtdiv", eps=()):
    def f(b, y):
        d = b.op("Sub", y, rm(b, y, ops))
        s = b.op("Pow", d, k(b, 2)) if sq == "pow" else b.op("Mul", d, d)
        v = b.op("Add", rm(b, s, ops), k(b, 1e-5, eps))
        n = (
            b.op("Div", d, b.op("Sqrt", v))
            if var == "sqrtdiv"
            else b.op("Mul", d, b.op("Reciprocal", b.op("Sqrt", v)))
            if var == "recip"
            else b.op("Mul", d, b.op("Pow", v, k(b, -0.5)))
        )
        return b.op("Add", b.op("Mul", n, g(b)), h(b))

    return f


ln("torch11", torch_ln(11), 11)
ln("torch18", torch_ln(18), 18)
ln("mulsq_recip", torch_ln(17, "mul", "recip"), 17, (1, 3, 16, 16))
ln("pow_minus_half", torch_ln(17, "pow", "powm", (1,)), 17, (4, 3, 16, 16))


def tf_ln(b, y):
    m = rm(b, y, 13)
    d = b.op("Sub", y, m)
    v = rm(b, b.op("Mul", d, d), 13)
    r = b.op("Mul", b.op("Reciprocal", b.op("Sqrt", b.op("Add", v, k(b, 1e-6)))), g(b))
    return b.op("Add", b.op("Mul", y, r), b.op("Sub", h(b), b.op("Mul", m, r)))


ln("tf2onnx_moments", tf_ln, 13)
ln(
    "no_affine",
    lambda b, y: (
        lambda d: b.op(
            "Div", d, b.op("Sqrt", b.op("Add", rm(b, b.op("Mul", d, d), 17), k(b, 1e-5)))
        )
    )(b.op("Sub", y, rm(b, y, 17))),
)
ln(
    "rmsnorm",
    lambda b, y: b.op(
        "Mul",
        b.op("Div", y, b.op("Sqrt", b.op("Add", rm(b, b.op("Mul", y, y), 17), k(b, 1e-5)))),
        g(b),
    ),
)
ln("op17_residual", lambda b, y: b.op("Add", y, b.op("LayerNormalization", y, g(b), h(b), axis=-1)))
ln(
    "paddle_sub_twice",
    lambda b, y: (
        lambda m: b.op(
            "Add",
            b.op(
                "Mul",
                b.op(
                    "Div",
                    b.op("Sub", y, m),
                    b.op(
                        "Sqrt",
                        b.op(
                            "Add",
                            rm(b, b.op("Pow", b.op("Sub", y, m), k(b, 2, (1,))), 11),
                            k(b, 1e-5, (1,)),
                        ),
                    ),
                ),
                g(b),
            ),
            h(b),
        )
    )(rm(b, y, 11)),
    11,
)


def ln_double(b, y):
    z = b.op("Cast", y, to=11)
    d = b.op("Sub", z, b.op("ReduceMean", z, axes=[-1]))
    s = b.op(
        "Sqrt",
        b.op("Add", b.op("ReduceMean", b.op("Mul", d, d), axes=[-1]), b.constant(np.float64(1e-5))),
    )
    return b.op("Cast", b.op("Div", d, s), to=1)


ln("in_double", ln_double)


@sib("layernorm")
def channels_first():
    b = Builder()
    y = b.conv("x", 3, 8)
    d = b.op("Sub", y, b.op("ReduceMean", y, axes=[1]))
    n = b.op(
        "Div",
        d,
        b.op(
            "Sqrt", b.op("Add", b.op("ReduceMean", b.op("Pow", d, k(b, 2)), axes=[1]), k(b, 1e-6))
        ),
    )
    y = b.op(
        "Add",
        b.op("Mul", n, b.constant(np.linspace(0.5, 1.5, 8).astype("f4").reshape(8, 1, 1))),
        b.constant(np.zeros((8, 1, 1), "f4")),
    )
    return b.model(b.head(b.conv_relu(y, 8, 8), 8))


@sib("layernorm")
def instance_norm_written():
    b = Builder()
    y = b.conv("x", 3, 8)
    d = b.op("Sub", y, b.op("ReduceMean", y, axes=[2, 3]))
    n = b.op(
        "Div",
        d,
        b.op("Sqrt", b.op("Add", b.op("ReduceMean", b.op("Mul", d, d), axes=[2, 3]), k(b, 1e-6))),
    )
    return b.model(b.head(b.conv_relu(n, 8, 8), 8))


@sib("layernorm")
def group_norm_torch():
    b = Builder()
    y = b.conv("x", 3, 8)
    r = b.op("Reshape", y, b.constant(ints(0, 2, -1)))
    n = b.op(
        "InstanceNormalization", r, b.constant(np.ones(2, "f4")), b.constant(np.zeros(2, "f4"))
    )
    n = b.op("Reshape", n, b.op("Shape", y))
    y = b.op(
        "Add",
        b.op("Mul", n, b.constant(np.linspace(0.5, 1.5, 8).astype("f4").reshape(8, 1, 1))),
        b.constant(np.zeros((8, 1, 1), "f4")),
    )
    return b.model(b.head(b.conv_relu(y, 8, 8), 8))


# ---- attention
def _split_projections(b, t, split, heads):
    """Return queries, keys and values (N, heads, 16, 8 / heads)."""
    d = 8 // heads
    if split == "three":
        parts = [b.op("Add", b.op("MatMul", t, b.noise(8, 8)), b.noise(8)) for _ in range(3)]
    else:
        y = b.op("MatMul", t, b.noise(8, 24))
    if split == "split":
        first = b.op("Split", y, b.constant(ints(8, 8, 8)), outputs=3, axis=2)
        parts = [first, f"{first}_1", f"{first}_2"]
    elif split == "slice":
        ends = [[b.constant(ints(n)) for n in (8 * i, 8 * i + 8, 2)] for i in range(3)]
        parts = [b.op("Slice", y, *each) for each in ends]
    elif split == "gather":
        y = b.op("Reshape", y, b.constant(ints(0, 16, 3, heads, d)))
        y = b.op("Transpose", y, perm=[2, 0, 3, 1, 4])
        return [b.op("Gather", y, b.constant(np.array(i)), axis=0) for i in range(3)]
    rows = [b.op("Reshape", z, b.constant(ints(0, 16, heads, d))) for z in parts]
    return [b.op("Transpose", z, perm=[0, 2, 1, 3]) for z in rows]


def _scores(b, q, keys, scale, d):
    if scale in {"q", "both"}:
        q = b.op("Mul", q, k(b, d ** (-0.5 if scale == "q" else -0.25)))
    if scale == "einsum":
        return b.op("Einsum", q, keys, equation="bhid,bhjd->bhij")
    turned = b.op("Transpose", keys, perm=[0, 1, 3, 2])
    if scale == "both":
        turned = b.op("Mul", turned, k(b, d**-0.25))
    s = b.op("MatMul", q, turned)
    if scale == "div":
        return b.op("Div", s, k(b, d**0.5))
    return b.op("Mul", s, k(b, d**-0.5, (1,))) if scale == "mul" else s


def _masked(b, s, mask):
    least = np.finfo("f4").min
    seen = np.tril(np.ones((16, 16), "f4"))

    def above(number):
        return b.constant(np.triu(np.full((16, 16), number, "f4"), 1))

    match mask:
        case "add":
            return b.op("Add", s, above(-1e9))
        case "inf":
            return b.op("Add", s, above(-np.inf))
        case "where" | "where_inf":
            number = -1e4 if mask == "where" else -np.inf
            return b.op("Where", b.constant(seen[None, None] > 0), s, k(b, number))
        case "finfo":
            place = b.constant(b.draw.normal(size=(1, 2, 16, 16)).astype("f4"))
            return b.op("Add", b.op("Add", s, above(least)), place)
        case "maximum":
            return b.op("Max", b.op("Add", above(least), s), k(b, least))
        case "one_minus":
            hidden = b.op("Mul", b.op("Sub", k(b, 1), b.constant(seen)), k(b, least))
            return b.op("Add", s, b.op("Unsqueeze", hidden, b.constant(ints(0, 1))))
    return s


def attn(name, scale="div", mask=None, split="three", opset=17, shape=("N", 3, 16, 16), heads=2):
    def f():
        b = Builder()
        t = tokens(b)
        q, keys, v = _split_projections(b, t, split, heads)
        s = _masked(b, _scores(b, q, keys, scale, 8 // heads), mask)
        o = b.op("MatMul", b.op("Softmax", s, axis=-1), v)
        o = b.op("Transpose", o, perm=[0, 2, 1, 3])
        o = b.op("Reshape", o, b.constant(ints(0, 16, 8)))
        o = b.op("Add", b.op("MatMul", o, b.noise(8, 8)), t)
        return b.model(end(b, o, 128), list(shape), opset=opset)

    f.__name__ = name
    sib("attention")(f)


attn("torch_div")
attn("sdpa_both", scale="both", split="split")
attn("paddle_q", scale="q", split="slice", opset=12, shape=(1, 3, 16, 16))
attn("gather_mul", scale="mul", split="gather", shape=(4, 3, 16, 16))
attn("mask_add", mask="add")
attn("mask_inf", mask="inf")
attn("mask_where", mask="where", split="split")
attn("mask_where_inf", mask="where_inf")
attn("mask_finfo", mask="finfo")
attn("mask_maximum", mask="maximum")
attn("mask_one_minus", mask="one_minus", shape=(1, 3, 16, 16))
attn("einsum", scale="einsum")


@sib("attention")
def op23():
    b = Builder()
    t = tokens(b)
    q, kk, v = [b.op("MatMul", t, b.noise(8, 8)) for _ in range(3)]
    o = b.op("Attention", q, kk, v, q_num_heads=2, kv_num_heads=2)
    return b.model(end(b, b.op("MatMul", o, b.noise(8, 8)), 128), opset=23)


@sib("attention")
def self_product():
    b = Builder()
    t = tokens(b)
    s = b.op("MatMul", t, b.op("Transpose", t, perm=[0, 2, 1]))
    return b.model(end(b, b.op("MatMul", b.op("Softmax", s, axis=-1), t), 128))


@sib("attention")
def gram_matrix_output():
    b = Builder()
    y = b.op("Reshape", b.conv_relu("x", 3, 8), b.constant(ints(0, 8, -1)))
    return b.model(b.op("MatMul", y, b.op("Transpose", y, perm=[0, 2, 1])), [1, 3, 16, 16])


@sib("attention")
def linear_attention():
    b = Builder()
    t = tokens(b)
    q, kk, v = [b.op("Relu", b.op("MatMul", t, b.noise(8, 8))) for _ in range(3)]
    s = b.op("MatMul", b.op("Transpose", kk, perm=[0, 2, 1]), v)
    o = b.op("MatMul", q, s)
    n = b.op(
        "MatMul", q, b.op("Transpose", b.op("ReduceSum", kk, b.constant(ints(1))), perm=[0, 2, 1])
    )
    return b.model(end(b, b.op("Div", o, b.op("Add", n, k(b, 1e-3))), 128))


# ---- scalars
act("mul_scalar", lambda b, y: b.op("Mul", b.op("Relu", y), k(b, 0.3, (1,))), kind="scalar")
act("add_scalar", lambda b, y: b.op("Add", b.op("Relu", y), k(b, 0.3, (1,))), kind="scalar")
act(
    "mul_add_scalar_shared",
    lambda b, y: b.op(
        "Add", b.op("Mul", b.op("Relu", y), k(b, 1.2)), b.op("Add", b.op("Relu", y), k(b, 0.1))
    ),
    kind="scalar",
)
act("mul_negative", lambda b, y: b.op("Mul", y, k(b, -2.0)), kind="scalar")
act(
    "learnable_affine",
    lambda b, y: b.op(
        "Add",
        b.op(
            "Mul",
            k(b, 0.9, (1,)),
            b.op("HardSwish", b.op("Add", b.op("Mul", k(b, 1.1, (1,)), y), k(b, 0.05, (1,)))),
        ),
        k(b, -0.02, (1,)),
    ),
    kind="scalar",
)
