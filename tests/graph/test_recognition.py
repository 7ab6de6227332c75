"""Activations, normalizations and biases in pieces become one operator, with the numbers unchanged.

ONNX Runtime computes both the file and its normal form. Each spelling is one that an exporter
writes: torch (erf as Div, Erf, Add, Mul, Mul), tf2onnx (Pow, Tanh), Paddle (Add, Clip, Mul, Div).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.graph.smallnets import assert_same, network, operators, through

Numbers = dict[str, NDArray[np.generic] | tuple[int, ...]]
CONV: Numbers = {"w": (4, 3, 3, 3), "b": (4,)}
NAMES = {
    "zero": 0.0,
    "half": 0.5,
    "one": 1.0,
    "two": 2.0,
    "three": 3.0,
    "six": 6.0,
    "sixth": 1 / 6,
    "minus3": -3.0,
    "minus1": -1.0,
    "root2": 2**0.5,
    "rooth": 0.5**0.5,
    "cubic": 0.044715,
    "tau": (2 / np.pi) ** 0.5,
}
SCALARS: Numbers = {name: np.array(value, np.float32) for name, value in NAMES.items()}

HARD_SWISH = [
    "a = Add(c, three) k = Clip(a, zero, six) m = Mul(c, k) y = Div(m, six)",
    "a = Add(three, c) k = Clip(a, zero, six) m = Mul(k, c) y = Mul(sixth, m)",
    "a = Add(c, three) k = Clip(a, zero, six) g = Div(k, six) y = Mul(c, g)",
    "a = Add(c, three) k = Clip(a, zero, six) g = Mul(k, sixth) y = Mul(g, c)",
    "a = Sub(c, minus3) r = Relu(a) k = Min(r, six) g = Div(k, six) y = Mul(c, g)",
    "a = Add(c, three) r = Max(zero, a) k = Min(six, r) m = Mul(c, k) y = Div(m, six)",
    "a = Add(c, three) r = Min(six, a) k = Max(zero, r) m = Mul(c, k) y = Div(m, six)",
    "d = Div(c, six) a = Add(c, three) k = Clip(a, zero, six) y = Mul(d, k)",
    "g = HardSigmoid<alpha = 0.16666667, beta = 0.5>(c) y = Mul(c, g)",
    "d = Mul(c, sixth) a = Add(d, half) k = Clip(a, zero, one) y = Mul(c, k)",
    "a = Add(c, three) d = Div(a, six) k = Clip(d, zero, one) y = Mul(k, c)",
]
MISH = [
    "p = Softplus(c) t = Tanh(p) y = Mul(c, t)",
    "e = Exp(c) a = Add(e, one) l = Log(a) t = Tanh(l) y = Mul(t, c)",
]
SIGMOID = [
    "n = Neg(c) e = Exp(n) a = Add(e, one) y = Div(c, a)",
    "n = Mul(c, minus1) e = Exp(n) a = Add(one, e) g = Div(one, a) y = Mul(c, g)",
]
GELU = [
    "d = Div(c, root2) e = Erf(d) a = Add(e, one) m = Mul(c, a) y = Mul(m, half)",
    "d = Mul(c, rooth) e = Erf(d) a = Add(one, e) h = Mul(half, a) y = Mul(h, c)",
    "h = Mul(c, half) d = Div(c, root2) e = Erf(d) a = Add(e, one) y = Mul(h, a)",
    "d = Div(c, root2) e = Erf(d) a = Add(e, one) m = Mul(c, a) y = Div(m, two)",
    "d = Mul(c, rooth) e = Erf(d) h = Mul(e, half) a = Add(h, half) y = Mul(c, a)",
]
GELU_TANH = [
    "p = Pow(c, three) q = Mul(p, cubic) s = Add(c, q) u = Mul(s, tau) t = Tanh(u)"
    " a = Add(t, one) h = Mul(c, half) y = Mul(h, a)",
    "q2 = Mul(c, c) q3 = Mul(q2, c) q = Mul(cubic, q3) s = Add(q, c) u = Mul(tau, s) t = Tanh(u)"
    " a = Add(one, t) m = Mul(c, a) y = Mul(half, m)",
    "p = Pow(c, two) q = Mul(p, cubic) s = Add(one, q) u1 = Mul(c, tau) u = Mul(u1, s) t = Tanh(u)"
    " a = Add(t, one) m = Mul(a, half) y = Mul(m, c)",
]
OTHERS = [  # what looks like one and is not: the product is not, or one constant is another
    "a = Add(c, two) k = Clip(a, zero, six) m = Mul(c, k) y = Div(m, six)",
    "a = Add(c, three) k = Clip(a, one, six) m = Mul(c, k) y = Div(m, six)",
    "a = Add(c, three) k = Clip(a, zero, six) m = Mul(c, k) y = Div(m, three)",
    "r = Relu(c) a = Add(r, three) k = Clip(a, zero, six) m = Mul(c, k) y = Div(m, six)",
    "g = HardSigmoid<alpha = 0.2, beta = 0.5>(c) y = Mul(c, g)",
    "d = Div(c, two) e = Erf(d) a = Add(e, one) m = Mul(c, a) y = Mul(m, half)",
    "d = Div(c, root2) e = Erf(d) a = Add(e, one) m = Mul(e, a) y = Mul(m, half)",
    "d = Mul(c, sixth) a = Add(d, half) k = Clip(a, zero, six) y = Mul(c, k)",
    "d = Mul(c, rooth) e = Erf(d) h = Mul(e, half) a = Add(h, one) y = Mul(c, a)",
    "n = Neg(c) e = Exp(n) a = Add(e, two) y = Div(c, a)",
    "p = Softplus(c) t = Tanh(p) y = Mul(p, t)",
]


def operators_of(body: str, folder: Path, weights: Numbers, **options: object) -> dict[str, int]:
    """Normalize behind a Conv whose values reach both corners, and check the numbers."""
    conv = "d0 = Conv(x, w, b) c = Mul(d0, three) "
    proto = network(conv + body, CONV | SCALARS | weights, **options)  # type: ignore[arg-type]
    _, model = through(proto, folder)
    assert_same(proto, model)
    return dict(operators(model))


@pytest.mark.parametrize("body", HARD_SWISH)
def test_a_hard_swish_in_pieces_is_one(body: str, tmp_path: Path) -> None:
    assert operators_of(body, tmp_path, {}) == {"Conv": 1, "HardSwish": 1}


@pytest.mark.parametrize("body", GELU + GELU_TANH)
def test_a_gelu_in_pieces_is_one(body: str, tmp_path: Path) -> None:
    assert operators_of(body, tmp_path, {}) == {"Conv": 1, "Gelu": 1}


@pytest.mark.parametrize("body", OTHERS)
def test_what_computes_something_else_stays_as_it_is(body: str, tmp_path: Path) -> None:
    found = operators_of(body, tmp_path, {})
    assert not {"HardSwish", "Gelu", "Mish", "Sigmoid"} & found.keys()


@pytest.mark.parametrize("body", MISH)
def test_a_mish_in_pieces_is_one(body: str, tmp_path: Path) -> None:
    assert operators_of(body, tmp_path, {}) == {"Conv": 1, "Mish": 1}


@pytest.mark.parametrize("body", SIGMOID)
def test_a_sigmoid_in_pieces_is_one(body: str, tmp_path: Path) -> None:
    assert operators_of(body, tmp_path, {}) == {"Conv": 1, "Sigmoid": 1, "Mul": 1}


def test_pieces_that_somebody_else_reads_stay_beside_the_one(tmp_path: Path) -> None:
    body = "a = Add(c, three) k = Clip(a, zero, six) m = Mul(c, k) h = Div(m, six) y = Add(h, k)"
    found = operators_of(body, tmp_path, {})
    assert found == {"Conv": 1, "HardSwish": 1, "Add": 2, "Clip": 1}


LAYER_NORM = [
    "u = ReduceMean<axes = [-1]>(t) d = Sub(t, u) q = Pow(d, two) v = ReduceMean<axes = [-1]>(q)"
    " e = Add(v, eps) r = Sqrt(e) n = Div(d, r) s = Mul(n, gamma) z = Add(s, beta)",
    "u = ReduceMean<axes = [2]>(t) d = Sub(t, u) q = Mul(d, d) v = ReduceMean<axes = [2]>(q)"
    " e = Add(eps, v) r = Sqrt(e) n = Div(d, r) s = Mul(gamma, n) z = Add(beta, s)",
    "u = ReduceMean<axes = [-1]>(t) d = Sub(t, u) d2 = Sub(t, u) q = Pow(d2, two)"
    " v = ReduceMean<axes = [-1]>(q) e = Add(v, eps) r = Pow(e, half) n = Div(d, r)"
    " s = Mul(n, gamma) z = Add(s, beta)",
    "u = ReduceMean<axes = [-1]>(t) d = Sub(t, u) q = Pow(d, two) v = ReduceMean<axes = [-1]>(q)"
    " e = Add(v, eps) r = Sqrt(e) z = Div(d, r)",
    "u = ReduceMean<axes = [1, 2]>(t) d = Sub(t, u) q = Pow(d, two)"
    " v = ReduceMean<axes = [1, 2]>(q) e = Add(v, eps) r = Sqrt(e) n = Div(d, r)"
    " z = Mul(n, wide)",
    "u = ReduceMean<axes = [-1]>(t) d = Sub(t, u) q = Mul(d, d) v = ReduceMean<axes = [-1]>(q)"
    " e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r) n = Mul(d, i) s = Mul(n, gamma)"
    " z = Add(s, beta)",
    "u = ReduceMean<axes = [-1]>(t) d = Sub(t, u) q = Pow(d, two) v = ReduceMean<axes = [-1]>(q)"
    " e = Add(v, eps) i = Pow(e, minush) n = Mul(i, d) s = Mul(n, gamma) z = Add(s, beta)",
    "u = ReduceMean<axes = [-1]>(t) d = Sub(t, u) q = Mul(d, d) v = ReduceMean<axes = [-1]>(q)"
    " e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r) k2 = Mul(i, gamma) s = Mul(t, k2)"
    " m = Mul(u, k2) h = Sub(beta, m) z = Add(s, h)",
    "u = ReduceMean<axes = [-1]>(t) d = Sub(t, u) q = Mul(d, d) v = ReduceMean<axes = [-1]>(q)"
    " e = Add(v, eps) r = Sqrt(e) i = Div(one, r) s = Mul(t, i) m = Mul(i, u) h = Sub(beta, m)"
    " z = Add(h, s)",
]


@pytest.mark.parametrize("body", LAYER_NORM)
def test_a_layer_normalization_in_pieces_is_one(body: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weights: Numbers = {
        "eps": np.array(1e-5, np.float32),
        "minush": np.array(-0.5, np.float32),
        "gamma": rng.normal(size=4).astype(np.float32),
        "beta": rng.normal(size=4).astype(np.float32),
        "wide": rng.normal(size=(36, 4)).astype(np.float32),
        "shape": np.array([0, 36, 4], np.int64),
        "k": (4, 2),
    }
    begin = "p = Transpose<perm = [0, 2, 3, 1]>(c) t = Reshape(p, shape) "
    end = " g = MatMul(z, k) f = Flatten(g) y = Identity(f)"
    found = operators_of(begin + body + end, tmp_path, weights)
    assert found == {
        "Conv": 1,
        "Transpose": 1,
        "Reshape": 1,
        "LayerNormalization": 1,
        "MatMul": 1,
        "Flatten": 1,
    }


@pytest.mark.parametrize("order", ["Add(m, bias)", "Add(bias, m)"])
@pytest.mark.parametrize("bias", [(6,), (1, 6), (1, 1, 6), (1,), ()])
def test_a_product_of_three_axes_takes_its_bias_into_a_gemm(
    order: str, bias: tuple[int, ...], tmp_path: Path
) -> None:
    values = np.random.default_rng(2).normal(size=bias).astype(np.float32)
    weights: Numbers = {"bias": values, "v": (4, 6), "shape": np.array([0, 4, 36], np.int64)}
    body = (
        "r = Reshape(c, shape) t = Transpose<perm = [0, 2, 1]>(r)"
        f" m = MatMul(t, v) a = {order} y = Flatten(a)"
    )
    found = operators_of(body, tmp_path, weights)
    assert found["Gemm"] == 1
    assert "MatMul" not in found
    assert "Add" not in found


def test_a_sum_that_is_no_bias_stays(tmp_path: Path) -> None:
    """A position embedding has a row for each position."""
    rows = np.random.default_rng(2).normal(size=(1, 36, 6)).astype(np.float32)
    weights: Numbers = {"rows": rows, "v": (4, 6), "shape": np.array([0, 4, 36], np.int64)}
    body = (
        "r = Reshape(c, shape) t = Transpose<perm = [0, 2, 1]>(r)"
        " m = MatMul(t, v) a = Add(m, rows) y = Flatten(a)"
    )
    found = operators_of(body, tmp_path, weights)
    assert found["MatMul"] == found["Add"] == 1


@pytest.mark.parametrize(
    "body", ["Mul(c, one)", "Mul(one, c)", "Div(c, one)", "Add(zero, c)", "Sub(c, zero)"]
)
def test_a_neutral_operand_changes_nothing_and_goes(body: str, tmp_path: Path) -> None:
    assert operators_of(f"y = {body}", tmp_path, {}) == {"Conv": 1}


def test_one_over_x_and_zero_minus_x_are_no_x(tmp_path: Path) -> None:
    found = operators_of("a = Sigmoid(c) d = Div(one, a) y = Sub(zero, d)", tmp_path, {})
    assert found["Div"] == found["Sub"] == 1


@pytest.mark.parametrize(("body", "products"), [("Swish(c)", 1), ("Swish<alpha = 2.0>(c)", 2)])
def test_a_swish_is_a_product_with_a_sigmoid(body: str, products: int, tmp_path: Path) -> None:
    found = operators_of(f"y = {body}", tmp_path, {}, opset=24)
    assert found == {"Conv": 1, "Sigmoid": 1, "Mul": products}


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("m = Mul(t, half) y = Conv(m, v)", []),
        ("m = Mul(half, t) y = Conv<pads = [1, 1, 1, 1]>(m, v, e)", []),
        ("m = Div(t, three) y = Conv<group = 2>(m, u)", []),
        ("m = Add(t, half) y = Conv(m, v, e)", []),
        ("m = Sub(t, half) y = Conv(m, v)", []),
        ("m = Mul(t, three) a = Add(m, half) y = Conv<strides = [2, 2]>(a, v, e)", []),
        ("m = Add(t, half) y = Conv<group = 2>(m, u)", []),
        ("m = Add(t, half) y = Conv<pads = [1, 1, 1, 1]>(m, v)", ["Add"]),  # not of the padding
        ("m = Sub(half, t) y = Conv(m, v)", ["Sub"]),
        ("m = Div(half, t) y = Conv(m, v)", ["Div"]),
        ("m = Mul(t, half) a = Conv(m, v) p = Conv(m, v) y = Add(a, p)", ["Mul", "Add"]),
        ("p = Flatten(t) m = Mul(p, half) y = Gemm(m, g, h)", []),
        ("p = Flatten(t) m = Mul(p, three) a = Add(m, half) y = Gemm<transB = 1>(a, gt, h)", []),
    ],
)
def test_a_number_in_front_of_a_layer_moves_into_it(
    body: str, left: list[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    weights: Numbers = {
        "v": (5, 4, 3, 3),
        "u": (6, 2, 3, 3),
        "e": rng.normal(size=5).astype(np.float32),
        "g": (144, 7),
        "gt": (7, 144),
        "h": rng.normal(size=7).astype(np.float32),
    }
    found = operators_of(f"t = Sigmoid(c) {body}", tmp_path, weights)
    assert sorted(set(found) - {"Conv", "Sigmoid", "Gemm", "Flatten"}) == sorted(left)
