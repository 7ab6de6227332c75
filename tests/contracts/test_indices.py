"""MaxPool whose indices are used: they are integers and stay what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.contracts.nets import Builder
from tests.contracts.pipeline import check_contract, quantize
from tests.export.ortrun import executed


def _pool(b: Builder, x: str, **attributes: object) -> tuple[str, str]:
    given = {"kernel_shape": [2, 2], "strides": [2, 2], **attributes}
    pooled = b.op("MaxPool", x, outputs=2, **given)
    return pooled, f"{pooled}_1"


@pytest.mark.parametrize("depth", [1, 2])
def test_an_encoder_and_decoder_of_indices_runs_its_layers_on_integers(
    depth: int, tmp_path: Path
) -> None:
    """SegNet: the decoder puts values back to where the encoder's maxima stood."""
    b = Builder()
    y, places = "x", []
    for width in (3, 8, 8)[:depth]:
        y, indices = _pool(b, b.conv_relu(y, width, 8))
        places.append(indices)
    for indices in places[::-1]:
        y = b.op("MaxUnpool", y, indices, kernel_shape=[2, 2], strides=[2, 2])
        y = b.conv_relu(y, 8, 8)
    proto = b.model(b.conv(y, 8, 4))
    found = quantize(proto, tmp_path)
    check_contract(proto, found.proto)
    assert [(n.op, n.reason) for n in found.plan.floats] == [
        ("MaxUnpool", "ONNX Runtime CPU has no integer kernel for MaxUnpool")
    ] * depth
    ops = executed(tmp_path / "net.q.onnx", tmp_path)
    assert ops["QLinearConv"] == 2 * depth + 1
    assert found.parity is not None
    assert found.parity.on_vs_off.largest <= 1
    # Maxima that are close change places when they are rounded, and white noise has many: measured
    # 21 and 20 dB
    assert min(found.sqnr_db.values()) > 15


def test_indices_that_are_an_output_are_those_of_the_runtime(tmp_path: Path) -> None:
    b = Builder()
    pooled, indices = _pool(b, b.conv_relu("x", 3, 8), storage_order=0)
    proto = b.model([b.conv(pooled, 8, 4), pooled])
    proto.graph.output.append(
        helper.make_tensor_value_info(indices, TensorProto.INT64, ("N", 8, 8, 8))
    )
    found = quantize(proto, tmp_path)
    check_contract(proto, found.proto)
    quantizers = [n for n in found.proto.graph.node if n.op_type == "QuantizeLinear"]
    assert indices not in {n.input[0] for n in quantizers}
    assert found.parity is not None
    assert found.parity.on_vs_off.largest <= 1


def test_an_output_of_indices_that_is_left_out_is_no_tensor(tmp_path: Path) -> None:
    b = Builder()
    y = b.conv_relu("x", 3, 8)
    b.nodes.append(helper.make_node("MaxPool", [y], ["pooled", ""], kernel_shape=[2, 2]))
    b.head(b.conv_relu("pooled", 8, 8), 8)
    proto = b.model(b.nodes[-1].output[0])
    found = quantize(proto, tmp_path)
    check_contract(proto, found.proto)
    assert "" not in {each.tensor for each in found.plan.shared}
    assert min(found.sqnr_db.values()) > 25  # measured 41


def test_gather_of_maxima_by_their_places_is_carried(tmp_path: Path) -> None:
    """The places of maxima read another tensor: they are data, not codes."""
    b = Builder()
    y = b.conv_relu("x", 3, 1)
    _, indices = _pool(b, y, kernel_shape=[4, 4], strides=[4, 4])
    flat = [b.op("Reshape", v, b.constant(np.array([-1]))) for v in (b.conv(y, 1, 1), indices)]
    out = b.op("Reshape", b.op("Gather", *flat, axis=0), b.constant(np.array([1, 16])))
    proto = b.model(out, [1, 3, 16, 16])
    onnx.checker.check_model(proto)
    found = quantize(proto, tmp_path)
    check_contract(proto, found.proto)
