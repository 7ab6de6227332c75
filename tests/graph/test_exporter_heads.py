"""How exporters end a classifier: pooling, flattening, the last layer, what stands behind it.

Conv - Relu - the pattern; `a` has eight channels of 6 x 6. What is normalized must compute what
ONNX Runtime computes on the file, and nothing in front of the last layer stays in float.
A line NAME | OPSET | OPERATORS OF THE NORMALISED HEAD, then the nodes from `a` to `y`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.graph.exporters import Pattern, floats_before_the_end, ints, named, patterns, real
from tests.graph.smallnets import assert_same, network, through

CONV = "o = Conv(x, w, b) a = Relu(o)"
CONSTANTS = {
    "w": (8, 3, 3, 3), "b": (8,), "k": (5, 8), "kt": (8, 5), "kb": (5,), "kb2": (1, 5),
    "kc": (5, 8, 1, 1), "k6": (5, 288), "kw": (5, 8, 6, 6), "scale": real(0.25),
    "zero": ints(0).reshape(()), "zeros": ints(0), "ones": ints(1), "minus": ints(-1),
    "ax23": ints(2, 3), "ax12": ints(1, 2), "axneg": ints(-1, -2), "ax3": ints(3), "ax2": ints(2),
    "flat0": ints(0, -1), "flat8": ints(-1, 8), "rest5": ints(-1, 5),
}  # fmt: skip
# GEMM, POOL and FLAT stand for the usual nodes
GEMM = "y = Gemm<transB=1>(f, k, kb)"
POOL = "g = GlobalAveragePool(a)"
FLAT = f"{POOL} f = Flatten(g)"
LAST = f"{FLAT} l = Gemm<transB=1>(f, k, kb)"
POOLS = f"""
pool/global | 7 | GlobalAveragePool Flatten Gemm
    {FLAT} {GEMM}
pool/mean-attribute | 7 | GlobalAveragePool Flatten Gemm
    f = ReduceMean<axes=[2,3],keepdims=0>(a) {GEMM}
pool/mean-negative | 13 | GlobalAveragePool Flatten Gemm
    g = ReduceMean<axes=[-1,-2],keepdims=1>(a) f = Flatten(g) {GEMM}
pool/mean-input | 18 | GlobalAveragePool Flatten Gemm
    f = ReduceMean<keepdims=0>(a, axneg) {GEMM}
pool/mean-nhwc | 11 | GlobalAveragePool Flatten Gemm
    t = Transpose<perm=[0,2,3,1]>(a) f = ReduceMean<axes=[1,2],keepdims=0>(t) {GEMM}
pool/mean-nhwc-kept | 18 | GlobalAveragePool Transpose Squeeze Gemm
    t = Transpose<perm=[0,2,3,1]>(a) g = ReduceMean<keepdims=1>(t, ax12) f = Squeeze(g, ax12)
    {GEMM}
pool/mean-in-two-steps | 13 | GlobalAveragePool Flatten Gemm
    s = ReduceMean<axes=[3],keepdims=0>(a) f = ReduceMean<axes=[2],keepdims=0>(s) {GEMM}
pool/average | 7 | GlobalAveragePool Flatten Gemm
    g = AveragePool<kernel_shape=[6,6],strides=[6,6]>(a) f = Flatten(g) {GEMM}
pool/maximum | 7 | GlobalMaxPool Flatten Gemm
    g = GlobalMaxPool(a) f = Flatten(g) {GEMM}
pool/none | 13 | Flatten Gemm
    f = Flatten(a) y = Gemm<transB=1>(f, k6, kb)
"""
FLATTENINGS = f"""
flat/shape-gather | 9 | GlobalAveragePool Reshape Gemm
    {POOL} s = Shape(g) n = Gather(s, zero) u = Unsqueeze<axes=[0]>(n)
    c = Concat<axis=0>(u, minus) f = Reshape(g, c) {GEMM}
flat/shape-slice | 13 | GlobalAveragePool Reshape Gemm
    {POOL} s = Shape(g) n = Slice(s, zeros, ones) c = Concat<axis=0>(n, minus)
    f = Reshape(g, c) {GEMM}
flat/keras | 13 | Reshape Gemm
    s = Shape(a) n = Slice(s, zeros, ones) m = Cast<to=7>(n) c = Concat<axis=0>(m, minus)
    f = Reshape(a, c) y = Gemm<transB=1>(f, k6, kb)
flat/zero | 7 | GlobalAveragePool Reshape Gemm
    {POOL} f = Reshape(g, flat0) {GEMM}
flat/minus | 7 | GlobalAveragePool Reshape Gemm
    {POOL} f = Reshape(g, flat8) {GEMM}
flat/constant-node | 12 | GlobalAveragePool Reshape Gemm
    {POOL} c = Constant<value_ints=[0,-1]>() f = Reshape(g, c) {GEMM}
flat/squeeze-attribute | 7 | GlobalAveragePool Squeeze Gemm
    {POOL} f = Squeeze<axes=[2,3]>(g) {GEMM}
flat/squeeze-input | 13 | GlobalAveragePool Squeeze Gemm
    {POOL} f = Squeeze(g, ax23) {GEMM}
flat/dropout | 7 | GlobalAveragePool Flatten Gemm
    {FLAT} d, m = Dropout(f) y = Gemm<transB=1>(d, k, kb)
"""
ENDS = f"""
last/matmul-add | 13 | GlobalAveragePool Flatten Gemm
    {FLAT} m = MatMul(f, kt) y = Add(m, kb)
last/matmul-add-turned | 7 | GlobalAveragePool Flatten Gemm
    {FLAT} m = MatMul(f, kt) y = Add(kb2, m)
last/weight-transposed | 13 | GlobalAveragePool Flatten Gemm
    {FLAT} t = Transpose<perm=[1,0]>(k) m = MatMul(f, t) y = Add(m, kb)
last/gemm-plain | 7 | GlobalAveragePool Flatten Gemm
    {FLAT} y = Gemm(f, kt, kb)
last/gemm-factors | 11 | GlobalAveragePool Flatten Gemm
    {FLAT} y = Gemm<transB=1,alpha=0.5,beta=2.0>(f, k, kb2)
last/gemm-without-bias | 11 | GlobalAveragePool Flatten Gemm
    {FLAT} y = Gemm<transB=1>(f, k)
last/conv-squeeze | 13 | GlobalAveragePool Flatten Gemm
    {POOL} c = Conv(g, kc, kb) y = Squeeze(c, ax23)
last/conv-reshape | 11 | GlobalAveragePool Flatten Gemm
    {POOL} c = Conv(g, kc, kb) y = Reshape(c, rest5)
last/conv-of-the-image | 11 | Flatten Gemm
    c = Conv(a, kw, kb) y = Flatten(c)
last/conv-pool | 9 | Conv GlobalAveragePool Flatten
    c = Conv(a, kc, kb) g = GlobalAveragePool(c) y = Flatten(g)
end/softmax-7 | 7 | GlobalAveragePool Flatten Gemm Softmax
    {LAST} y = Softmax(l)
end/softmax-13 | 13 | GlobalAveragePool Flatten Gemm Softmax
    {LAST} y = Softmax<axis=-1>(l)
end/logsoftmax | 11 | GlobalAveragePool Flatten Gemm LogSoftmax
    {LAST} y = LogSoftmax<axis=1>(l)
end/temperature | 13 | GlobalAveragePool Flatten Gemm Softmax
    {LAST} t = Mul(l, scale) y = Softmax<axis=-1>(t)
end/sigmoid | 13 | GlobalAveragePool Flatten Gemm Sigmoid
    {LAST} y = Sigmoid(l)
end/identity | 13 | GlobalAveragePool Flatten Gemm
    {LAST} y = Identity(l)
end/argmax | 12 | GlobalAveragePool Flatten Gemm ArgMax
    {LAST} y = ArgMax<axis=1,keepdims=0>(l)
"""


@pytest.mark.parametrize("pattern", patterns(POOLS + FLATTENINGS + ENDS), ids=lambda p: p.name)
def test_the_end_of_a_classifier_in_the_words_of_an_exporter(
    pattern: Pattern, tmp_path: Path
) -> None:
    weights = {n: c for n, c in CONSTANTS.items() if n in pattern.words | {"w", "b"}}
    result = "int64[N] y" if "argmax" in pattern.name else "float[N,5] y"
    body = f"{CONV}\n{pattern.body}"
    proto = named(network(body, weights, opset=pattern.opset, result=result))
    _, model = through(proto, tmp_path)
    assert_same(proto, model)
    assert [n.op_type for n in model.ir.graph][2:] == pattern.operators
    assert floats_before_the_end(model) == ["ArgMax"] * ("argmax" in pattern.name)
