"""MatMul and Gemm in every form of their constant: a matrix is quantized, other forms are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfqonnx.errors import UnsupportedModel
from tests.contracts.nets import Builder
from tests.contracts.pipeline import Quantized, check_contract, quantize
from tests.export.ortrun import executed


def _tokens(b: Builder) -> str:
    """Return values of shape (N, 16, 8)."""
    y = b.conv_relu("x", 3, 8, strides=[4, 4])
    return b.op("Transpose", b.op("Reshape", y, b.constant(np.array([0, 8, 16]))), perm=[0, 2, 1])


def _classify(b: Builder, y: str, shape: tuple[int, ...]) -> str:
    flat = b.op("Reshape", b.op("Relu", y), b.constant(np.array([0, -1])))
    return b.op("Gemm", flat, b.noise(5, int(np.prod(shape))), b.noise(5), transB=1)


def _run(b: Builder, folder: Path) -> Quantized:
    proto = b.model(b.nodes[-1].output[0])
    found = quantize(proto, folder)
    check_contract(proto, found.proto)
    assert found.parity is not None
    assert found.parity.on_vs_off.largest <= 1
    assert min(found.sqnr_db.values()) > 25  # measured 39 and more: 8-bit noise
    return found


def _reasons(found: Quantized) -> dict[str, str]:
    return {node.op: node.reason for node in found.plan.floats}


def test_a_weight_with_leading_axes_of_one_is_a_matrix(tmp_path: Path) -> None:
    b = Builder()
    y = b.op("MatMul", _tokens(b), b.constant(b.draw.normal(size=(1, 8, 6)).astype(np.float32)))
    _classify(b, y, (16, 6))
    found = _run(b, tmp_path)
    assert "MatMul" not in _reasons(found)
    assert executed(tmp_path / "net.q.onnx", tmp_path)["QLinearMatMul"] == 1


@pytest.mark.parametrize("transposed", [False, True])
def test_a_weight_of_several_matrices_stays_float_and_is_told(
    transposed: bool, tmp_path: Path
) -> None:
    b = Builder()
    heads = b.op("Reshape", _tokens(b), b.constant(np.array([0, 4, 4, 8])))
    weight = b.noise(4, 8, 6) if not transposed else b.noise(1, 4, 8, 6)
    _classify(b, b.op("MatMul", heads, weight), (4, 4, 6))
    found = _run(b, tmp_path)
    axes = 4 if transposed else 3
    reason = f"its weight has {axes} axes; only a matrix gets one scale per column"
    assert _reasons(found)["MatMul"] == reason


@pytest.mark.parametrize("rank", [2, 3])
def test_a_vector_is_a_matrix_of_one_column(rank: int, tmp_path: Path) -> None:
    b = Builder()
    if rank == 2:
        y = b.op("Flatten", b.op("GlobalAveragePool", b.conv_relu("x", 3, 8)))
        b.op("MatMul", y, b.constant(b.draw.normal(size=8).astype(np.float32)))
    else:
        y = b.op("MatMul", _tokens(b), b.constant(b.draw.normal(size=8).astype(np.float32)))
        _classify(b, y, (16, 1))
    found = _run(b, tmp_path)
    assert "MatMul" not in _reasons(found)
    assert len(found.plan.weights) == (2 if rank == 2 else 3)


def test_a_constant_on_the_left_stays_float_and_is_told(tmp_path: Path) -> None:
    b = Builder()
    _classify(b, b.op("MatMul", b.noise(6, 16), _tokens(b)), (6, 8))
    found = _run(b, tmp_path)
    assert _reasons(found)["MatMul"].startswith("its first operand is a constant")


@pytest.mark.parametrize("attributes", [
    {"transA": 1}, {"transA": 1, "transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transB": 1},
])  # fmt: skip
def test_every_gemm_of_a_constant_matrix_is_quantized(
    attributes: dict[str, float], tmp_path: Path
) -> None:
    b = Builder()
    y = b.op("Flatten", b.op("GlobalAveragePool", b.conv_relu("x", 3, 8)))
    if attributes.get("transA"):
        y = b.op("Transpose", y, perm=[1, 0])
    shape = (5, 8) if attributes.get("transB") else (8, 5)
    b.op("Gemm", y, b.noise(*shape), b.noise(1, 5), **attributes)
    found = _run(b, tmp_path)
    assert "Gemm" not in _reasons(found)
    assert executed(tmp_path / "net.q.onnx", tmp_path)["QGemm"] == 1


def test_a_model_of_such_weights_alone_is_refused_by_name(tmp_path: Path) -> None:
    b = Builder()
    y = b.op("MatMul", "x", b.noise(3, 16, 4))
    with pytest.raises(UnsupportedModel) as caught:
        quantize(b.model(y), tmp_path)
    (offense,) = caught.value.offenses
    assert (offense.op, "3 axes" in offense.reason) == ("MatMul", True)
