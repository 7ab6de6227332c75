"""What passes must leave alone, or may change only with care: ONNX Runtime computes the same.

Each network is one at the edge of a rewrite: negative and mixed padding, shared and zero weights,
constants on the other side, bounds that exclude each other, windows of the image's size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfqonnx.graph.model import NormalizedModel
from tests.graph.smallnets import assert_same, batchnorm, network, operators, through

CONV = {"w": (4, 3, 3, 3), "b": (4,)}


def same(folder: Path, body: str, weights: dict[str, Any], **options: Any) -> NormalizedModel:
    """Normalize, check the numbers at two batch sizes, return the model."""
    proto = network(body, weights, **options)
    _, model = through(proto, folder)
    assert_same(proto, model)
    return model


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(("pads", "folds"), [
    ((0, 0, 1, 2, 0, 0, 0, 1), True), ((0, 0, -1, 0, 0, 0, 0, 0), False),
    ((0, 0, 0, 0, 0, 0, 0, -2), False), ((0, 0, -1, 2, 0, 0, 1, 1), False),
    ((0, 0, 2, 1, 0, 0, -1, 1), False), ((0, 1, 1, 1, 0, -1, 1, 1), False),
    ((0, 1, 0, 0, 0, -1, 0, 0), False), ((0, -1, 0, 0, 0, 1, 0, 0), False),
])  # fmt: skip
@pytest.mark.parametrize("axes", [False, True])
def test_a_pad_that_crops_stays_and_one_of_the_image_goes_into_the_conv(
    pads: tuple[int, ...], folds: bool, axes: bool, tmp_path: Path
) -> None:
    constants: dict[str, Any] = {"pads": np.array(pads)}
    given = "x, pads"
    if axes:  # another order of the same amounts
        constants = {"axes": np.array([3, -2, 1, 0]),
                     "pads": np.array([*pads[:4][::-1], *pads[4:][::-1]])}  # fmt: skip
        given = "x, pads, , axes"
    body = f"p = Pad({given}) y = Conv<pads=[1,0,0,1]>(p, w, b)"
    model = same(tmp_path, body, CONV | constants, opset=18)
    assert ("Pad" not in operators(model)) is folds


@pytest.mark.parametrize(("pool", "pads", "folds"), [
    ("kernel_shape=[3,3]", (1, 0, 2, 1), True),
    ("kernel_shape=[3,3], strides=[2,2], count_include_pad=1, pads=[1,0,0,1]", (1, 1, 1, 1), True),
    ("kernel_shape=[3,3], pads=[1,0,0,1]", (1, 1, 1, 1), False),  # its own does not count
    ("kernel_shape=[3,3], strides=[2,2], ceil_mode=1", (0, 1, 0, 0), None),
    ("kernel_shape=[2,2]", (-1, 0, 0, 0), False),
])  # fmt: skip
def test_padding_of_an_average_counts_as_it_did(
    pool: str, pads: tuple[int, ...], folds: bool | None, tmp_path: Path
) -> None:
    amounts = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]])
    body = f"c = Conv(x, w, b) p = Pad(c, pads) y = AveragePool<{pool}>(p)"
    model = same(tmp_path, body, CONV | {"pads": amounts})
    assert folds is None or ("Pad" not in operators(model)) is folds


@pytest.mark.parametrize("node", [
    "Sub(k, c)", "Div(k, c2)", "Mul(c, zeros)", "Mul(c, some)", "Div(c, k)", "Sub(c, k)",
    "Add(k, c)", "Mul(k, c)", "Add(c, wide)", "Mul(c, wide)", "Add(c, rows)", "Sub(c, one)",
    "Div(c, one)", "Add(c, image)",
])  # fmt: skip
def test_arithmetic_with_constants_on_either_side_is_the_same(node: str, tmp_path: Path) -> None:
    constants = {
        "k": vector(1, -2, 3, 0.5).reshape(4, 1, 1), "zeros": np.zeros((1, 4, 1, 1), np.float32),
        "some": vector(0, 1, 0, -1).reshape(1, 4, 1, 1),
        "wide": vector(1, 2).reshape(2, 1, 1, 1, 1),
        "rows": np.linspace(-1, 1, 6, dtype=np.float32).reshape(6, 1), "one": vector(2),
        "image": np.linspace(-1, 1, 36, dtype=np.float32).reshape(1, 1, 6, 6), "five": vector(5),
    }  # fmt: skip
    body = f"c = Conv(x, w, b) e = Exp(c) c2 = Add(e, five) y = {node}"
    result = "float[A,N,C,H,W] y" if "wide" in node else "float[N,C,H,W] y"
    if "wide" in node:
        body = f"c = Conv(x, w, b) z = {node} y = ReduceSum<keepdims=0>(z, first)"
        constants["first"] = np.array([0])
        result = "float[N,C,H,W] y"
    same(tmp_path, body, CONV | constants, result=result)


def test_a_division_by_a_constant_with_a_zero_stays_a_division(tmp_path: Path) -> None:
    body = "c = Conv(x, w, b) a = Abs(c) d = Div(a, k) y = Clip(d, lo, hi)"
    bounds = {"lo": np.float32(-9), "hi": np.float32(9), "k": vector(1, 0, 2, -1).reshape(4, 1, 1)}
    model = same(tmp_path, body, CONV | bounds)
    assert operators(model)["Div"] == 1


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_batchnorm_scales_the_outputs_of_every_group(
    epsilon: float, groups: int, tmp_path: Path
) -> None:
    body = f"""
        a = Conv(x, w, b) c = Conv<group={groups}>(a, v)
        y = BatchNormalization<epsilon={epsilon:f}>(c, n_g, n_b, n_m, n_v)
    """
    model = same(tmp_path, body, CONV | {"v": (8, 4 // groups, 3, 3)} | batchnorm("n", 8))
    assert operators(model) == {"Conv": 2}


@pytest.mark.parametrize("body", [
    "c = Conv(x, w, b) n = BatchNormalization(c, n_g, n_b, n_m, n_v) y = Add(c, n)",
    "c = Conv(x, w, b) d = Conv(x, w, b) n = BatchNormalization(c, n_g, n_b, n_m, n_v)"
    " y = Add(d, n)",
    "c = Conv(x, w, b) m = Mul(c, b4) d = Conv(x, w, b) y = Sub(m, d)",
    "c = Conv(x, w) m = Mul(c, b4) d = Conv(x, w) e = Add(d, b4) y = Sub(m, e)",
])  # fmt: skip
def test_weights_and_values_that_others_read_keep_their_numbers(body: str, tmp_path: Path) -> None:
    weights = CONV | batchnorm("n", 4) | {"b4": vector(1, -2, 3, 0.5).reshape(1, 4, 1, 1)}
    model = same(tmp_path, body, weights)
    names = [n.inputs[k].name for n in model.ir.graph if n.op_type == "Conv" for k in (1, 2)]
    assert len(set(names)) == len(names), "every layer owns its weight and bias"


@pytest.mark.parametrize("chain", [
    "m = Max(c, lo) y = Min(m, hi)", "m = Min(c, hi) y = Max(m, lo)",
    "m = Max(lo, c) y = Min(hi, m)",
    "m = Clip(c, lo, hi) y = Clip(m, lo2, hi2)", "m = Clip(c, lo2, hi2) y = Clip(m, lo, hi)",
    "m = Relu(c) y = Clip(m, lo, hi)", "m = Clip(c, lo, hi) y = Relu(m)",
    "m = Clip(c, far, hi) y = Clip(m, lo, hi2)", "m = Clip(c, lo, ) y = Clip(m, , hi)",
    "m = Clip(c, hi, hi2) y = Clip(m, lo2, lo)", "m = Relu(c) n = Clip(m, lo, hi) y = Add(m, n)",
    "m = Max(c, many) y = Min(m, hi)",
])  # fmt: skip
def test_clamps_in_a_row_have_the_tighter_bounds(chain: str, tmp_path: Path) -> None:
    bounds = {name: np.float32(value) for name, value in (
        ("lo", -0.5), ("hi", 0.75), ("lo2", -0.25), ("hi2", 1.5), ("far", -3.0))}  # fmt: skip
    many = {"many": vector(-1, 0, 0.1, 0.2).reshape(4, 1, 1)}
    same(tmp_path, f"c = Conv(x, w, b) {chain}", CONV | bounds | many)


@pytest.mark.parametrize("node", [
    "AveragePool<kernel_shape=[6,6]>(c)", "AveragePool<kernel_shape=[6,6], pads=[1,1,1,1]>(c)",
    "AveragePool<kernel_shape=[6,5]>(c)", "AveragePool<kernel_shape=[5,5], strides=[9,9]>(c)",
    "AveragePool<kernel_shape=[4,4], strides=[3,3], ceil_mode=1>(c)",
    "AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[1,0,0,1]>(c)",
    "AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,0,0], count_include_pad=1>(c)",
    "AveragePool<kernel_shape=[2,2], strides=[4,4], ceil_mode=1>(c)",
    "ReduceMean<axes=[2]>(c)", "ReduceMean<axes=[3,2]>(c)", "ReduceMean<axes=[1,2,3]>(c)",
    "ReduceMean<axes=[-1,-2], keepdims=0>(c)", "ReduceMean<axes=[1,2]>(c)",
])  # fmt: skip
def test_means_of_a_part_and_of_the_whole_image_are_told_apart(node: str, tmp_path: Path) -> None:
    whole = "[6,6]>" in node or "[3,2]" in node or "[-1,-2]" in node
    model = same(tmp_path, f"c = Conv(x, w, b) y = {node}", CONV)
    assert ("GlobalAveragePool" in operators(model)) is whole


@pytest.mark.parametrize(("added", "gemm"), [
    (vector(1, 2, 3, 4, 5), True), (vector(7), True), (vector(1, 2, 3, 4, 5).reshape(1, 5), True),
    (np.arange(5, dtype=np.float32).reshape(5, 1), False),
    (np.arange(25, dtype=np.float32).reshape(5, 5), False),
    (np.arange(5, dtype=np.float32).reshape(1, 5, 1), False),
])  # fmt: skip
@pytest.mark.parametrize("order", ["m, k", "k, m"])
def test_only_a_number_for_every_column_is_a_bias(
    added: np.ndarray, gemm: bool, order: str, tmp_path: Path
) -> None:
    model = same(
        tmp_path, f"m = MatMul(x, w) y = Add({order})", {"w": (6, 5), "k": added},
        image="float[N,5,6] x", result="float[N,5,5] y",
    )  # fmt: skip
    assert (operators(model).get("Gemm", 0) == 1) is gemm


@pytest.mark.parametrize("node", [
    "Gemm(f, v, c)", "Gemm<transB=1>(f, vt, c)", "Gemm<alpha=0.5>(f, v, c)", "Gemm(f, v)",
    "Gemm<beta=-2.0>(f, v, c)", "Gemm<alpha=2.0, transB=1>(f, vt)", "Gemm(f, v, one)",
    "Gemm<beta=0.5>(f, v, row)", "Gemm<alpha=3.0, beta=2.0, transB=1>(f, vt, row)", "MatMul(f, v)",
])  # fmt: skip
def test_every_spelling_of_a_product_is_one_form(node: str, tmp_path: Path) -> None:
    constants = {"v": (192, 5), "vt": (5, 192), "c": (5,), "one": vector(3), "row": (1, 5)}
    model = same(tmp_path, f"f = Flatten(x) y = {node}", constants)
    assert operators(model)["Gemm"] == 1
