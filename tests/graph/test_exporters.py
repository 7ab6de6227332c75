"""What exporters write for one and the same layer, in their own words.

Every pattern is the middle of a small network: Conv, the pattern, Conv, pooling, Gemm. What is
normalized must compute what ONNX Runtime computes on the file, and the nodes that stay in float in
front of the last layer must be those named here, each with a reason.

A line NAME | OPSET | OPERATORS LEFT IN FLOAT, then the nodes from `a` to `z`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.graph.exporters import Pattern, floats_before_the_end, ints, named, patterns, real
from tests.graph.smallnets import assert_same, batchnorm, network, through

CONV = "a = Conv<pads=[1,1,1,1]>(x, w, b)"
TAIL = """e = Conv<pads=[1,1,1,1]>(z, v) g = GlobalAveragePool(e) f = Flatten(g)
y = Gemm<transB=1>(f, k, kb)"""
WEIGHTS = {"w": (8, 3, 3, 3), "b": (8,), "v": (8, 8, 3, 3), "k": (5, 8), "kb": (5,)}
CONSTANTS = {
    "zero": real(0), "half": real(0.5), "one": real(1), "two": real(2), "three": real(3),
    "six": real(6), "sixth": real(1 / 6), "root": real(2**0.5), "eps": real(1e-5),
    "cube": real(0.044715), "tanh": real((2 / np.pi) ** 0.5),
    "gamma": real(*(1 + i / 8 for i in range(8))), "beta": real(*(i / 9 for i in range(8))),
    "c8": real(*(i / 7 - 0.5 for i in range(8))).reshape(1, 8, 1, 1),
    "twice": real(1, 1, 2, 2), "none": np.zeros(0, np.float32), "sizes16": ints(1, 8, 16, 16),
    "pad1": ints(0, 0, 1, 1, 0, 0, 1, 1), "padlast": ints(0, 1, 1, 0, 0, 1, 1, 0),
    "ax23": ints(2, 3), "fours": ints(4, 4), "groups": ints(-1, 2, 4, 8, 8),
    "ungroup": ints(-1, 8, 8, 8), "shape8811": ints(8, 8, 1, 1),
    "s0": ints(0), "s1": ints(1), "s9": ints(2**31 - 1), "ax3": ints(3), "st2": ints(2),
    "u1": (8, 8, 1, 1), "u16": (8, 16, 1, 1), "u_hwio": (1, 1, 8, 8), "flat": (8, 8),
    "v3": (8, 8, 3, 3), "ksq": (8, 8), **batchnorm("n", 8), **batchnorm("d", 16),
}  # fmt: skip
ACTIVATIONS = """
hard-swish/div | 11 |
    p = Add(a, three) q = Clip(p, zero, six) m = Mul(a, q) z = Div(m, six)
hard-swish/mul | 13 |
    p = Add(a, three) q = Clip(p, zero, six) r = Mul(q, sixth) z = Mul(a, r)
hard-swish/attr | 9 |
    p = Add(a, three) q = Clip<min=0.0,max=6.0>(p) r = Div(q, six) z = Mul(r, a)
hard-swish/minmax | 13 |
    p = Add(three, a) n = Max(p, zero) q = Min(n, six) r = Div(q, six) z = Mul(r, a)
hard-swish/sigmoid | 13 |
    q = HardSigmoid<alpha=0.16666667,beta=0.5>(a) z = Mul(a, q)
hard-swish/op | 14 |
    z = HardSwish(a)
hard-sigmoid/clip | 13 |
    p = Mul(a, sixth) q = Add(p, half) z = Clip(q, zero, one)
relu6/inputs | 11 |
    z = Clip(a, zero, six)
relu6/attributes | 7 |
    z = Clip<min=0.0,max=6.0>(a)
relu6/relu+min | 13 |
    r = Relu(a) z = Min(r, six)
relu6/min+max | 12 |
    r = Min(a, six) z = Max(r, zero)
relu6/relu+clip | 11 |
    r = Relu(a) z = Clip(r, , six)
relu6/constants | 12 |
    lo = Constant<value_float=0.0>() hi = Constant<value_float=6.0>() z = Clip(a, lo, hi)
swish | 9 |
    s = Sigmoid(a) z = Mul(a, s)
swish/turned | 13 |
    s = Sigmoid(a) z = Mul(s, a)
leaky/max | 13 | Max Mul
    m = Mul(a, half) z = Max(a, m)
mish | 13 | Mish
    p = Softplus(a) t = Tanh(p) z = Mul(a, t)
gelu/erf | 13 | Gelu
    d = Div(a, root) h = Erf(d) p = Add(h, one) m = Mul(a, p) z = Mul(m, half)
gelu/tanh | 13 | Gelu
    s = Mul(a, a) t = Mul(s, a) u = Mul(t, cube) i = Add(a, u) j = Mul(i, tanh) h = Tanh(j)
    p = Add(h, one) m = Mul(a, half) z = Mul(m, p)
prelu | 9 | PRelu
    z = PRelu(a, c8)
prelu/keras | 13 | Mul Neg Neg
    r = Relu(a) n = Neg(a) q = Relu(n) o = Neg(q) m = Mul(o, half) z = Add(r, m)
elu | 7 | Elu
    z = Elu(a)
"""
LAYERS = """
bias/add | 13 |
    n = Conv(a, u1) z = Add(n, c8)
bias/add-turned | 7 |
    n = Conv(a, u1) z = Add(c8, n)
scale/mul | 13 |
    n = Conv(a, u1) z = Mul(n, c8)
weight/identity | 13 |
    i = Identity(u1) z = Conv(a, i)
weight/transpose | 13 |
    i = Transpose<perm=[3,2,0,1]>(u_hwio) z = Conv(a, i)
weight/reshape | 13 |
    i = Reshape(flat, shape8811) z = Conv(a, i)
weight/mul | 13 |
    i = Mul(u1, half) z = Conv(a, i)
pad/input | 13 |
    p = Pad(a, pad1) z = Conv(p, v3)
pad/value | 11 |
    p = Pad(a, pad1, zero) z = Conv(p, v3)
pad/attribute | 9 |
    p = Pad<mode="constant",pads=[0,0,1,1,0,0,1,1]>(a) z = Conv(p, v3)
pad/nhwc | 13 |
    t = Transpose<perm=[0,2,3,1]>(a) p = Pad(t, padlast) s = Transpose<perm=[0,3,1,2]>(p)
    z = Conv(s, v3)
bn/7-spatial | 7 |
    n = Conv(a, u1) z = BatchNormalization<spatial=1>(n, n_g, n_b, n_m, n_v)
bn/after-concat | 13 |
    c = Concat<axis=1>(a, a) n = BatchNormalization(c, d_g, d_b, d_m, d_v) r = Relu(n)
    z = Conv(r, u16)
bn/before-conv | 13 |
    n = BatchNormalization(a, n_g, n_b, n_m, n_v) z = Conv(n, u1)
bn/nhwc | 13 | Add Mul
    t = Transpose<perm=[0,2,3,1]>(a) m = Mul(t, gamma) p = Add(m, beta)
    z = Transpose<perm=[0,3,1,2]>(p)
bn/decomposed | 13 |
    n = Conv(a, u1) i = Sub(n, c8) j = Mul(i, c8) z = Add(j, c8)
dropout/7 | 7 |
    z = Dropout<ratio=0.5>(a)
dropout/two | 13 |
    z, mask = Dropout(a, half)
layernorm/2d | 13 | LayerNormalization
    t = Transpose<perm=[0,2,3,1]>(a) m = ReduceMean<axes=[-1]>(t) d = Sub(t, m) s = Pow(d, two)
    q = ReduceMean<axes=[-1]>(s) h = Add(q, eps) r = Sqrt(h) n = Div(d, r) l = Mul(n, gamma)
    o = Add(l, beta) z = Transpose<perm=[0,3,1,2]>(o)
shuffle | 13 |
    p = Reshape(a, groups) t = Transpose<perm=[0,2,1,3,4]>(p) z = Reshape(t, ungroup)
split/input | 13 |
    h, l = Split<axis=1>(a, fours) z = Concat<axis=1>(l, h)
split/attribute | 7 |
    h, l = Split<axis=1,split=[4,4]>(a) z = Concat<axis=1>(l, h)
split/outputs | 18 |
    h, l = Split<axis=1,num_outputs=2>(a) z = Concat<axis=1>(l, h)
focus/slices | 13 |
    i = Slice(a, s0, s9, ax3, st2) j = Slice(a, s1, s9, ax3, st2) c = Concat<axis=1>(i, j)
    z = Conv(c, u16)
upsample/7 | 7 |
    z = Upsample<mode="nearest",scales=[1.0,1.0,2.0,2.0]>(a)
upsample/9 | 9 |
    z = Upsample<mode="nearest">(a, twice)
upsample/9-linear | 9 | Resize
    z = Upsample<mode="linear">(a, twice)
resize/10 | 10 |
    z = Resize<mode="nearest">(a, twice)
resize/11 | 11 |
    

    z = Resize<mode="nearest",nearest_mode="floor",
        coordinate_transformation_mode="asymmetric">(a, none, twice)
resize/11-sizes | 11 | Resize
    
    z = Resize<mode="linear",coordinate_transformation_mode="align_corners">(a, none, none,
        sizes16)
resize/13 | 13 |
    

    z = Resize<mode="nearest",nearest_mode="floor",
        coordinate_transformation_mode="asymmetric">(a, , twice)
resize/13-linear | 13 | Resize
    z = Resize<mode="linear",coordinate_transformation_mode="pytorch_half_pixel">(a, , twice)
se/reduce | 13 |
    m = ReduceMean<axes=[2,3],keepdims=1>(a) i = Conv(m, u1) r = Relu(i) j = Conv(r, u1)
    s = Sigmoid(j) z = Mul(a, s)
se/linear | 13 |
    m = GlobalAveragePool(a) i = Squeeze(m, ax23) j = MatMul(i, ksq) s = Sigmoid(j)
    l = Unsqueeze(s, ax23) z = Mul(a, l)
"""


@pytest.mark.parametrize("pattern", patterns(ACTIVATIONS + LAYERS), ids=lambda p: p.name)
def test_a_layer_in_the_words_of_an_exporter(pattern: Pattern, tmp_path: Path) -> None:
    body = f"{CONV}\n{pattern.body}\n{TAIL}"
    batch = "1" if "sizes16" in body else "N"  # this one names the batch in the file
    weights = WEIGHTS | {n: a for n, a in CONSTANTS.items() if n in pattern.words}
    proto = named(network(body, weights, opset=pattern.opset, image=f"float[{batch},3,8,8] x"))
    _, model = through(proto, tmp_path)
    assert_same(proto, model)
    assert floats_before_the_end(model) == pattern.operators
