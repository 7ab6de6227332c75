"""Models too large for one protobuf message: data beside the file, mapped when asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper

from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.graph import load as loading
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.workflows.inspect import inspect
from tests.export.qnets import export_net, residual
from tests.graph.smallnets import assert_same


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    proto = residual().proto()
    external_data_helper.convert_model_to_external_data(
        proto, location="net.data", size_threshold=0, convert_attribute=False
    )
    onnx.save(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("mapped", [True, False])
def test_several_tensors_in_one_file_are_found_by_their_offsets(
    beside: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    if mapped:
        monkeypatch.setattr(loading, "_MAX_READ_BYTES", 0)
        monkeypatch.setattr(loading, "_LARGE_TENSOR", 300)
    loaded = load(beside)
    assert bool(loaded.external) is mapped
    assert_same(residual().proto(), normalize(loaded))


def test_the_exported_file_holds_its_own_data(tmp_path: Path) -> None:
    found = export_net(residual().proto(), tmp_path)
    assert not [t for t in found.proto.graph.initializer if t.external_data]


def enormous(folder: Path) -> Path:
    """A Gemm of 2.3 GB whose data are a hole in a file: no disk space, no reading."""
    width = 24_000
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[width, width])
    weight.data_location = TensorProto.EXTERNAL
    size = width * width * 4
    for key, value in {"location": "net.data", "offset": 4096, "length": size}.items():
        weight.external_data.add(key=key, value=str(value))
    with (folder / "net.data").open("wb") as handle:
        handle.truncate(size + 4096)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["y"]),
        ],
        "enormous",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


@pytest.mark.slow
def test_a_model_of_more_than_two_gigabytes_is_read_and_inspected(tmp_path: Path) -> None:
    path = enormous(tmp_path)
    found = inspect(path, QuantizationConfig(BitWidths(4, 4)))
    assert found.refusals == ()
    assert found.bytes > 2**31
    assert found.parameters == 24_000 * 24_001
    assert found.estimated_bytes < found.bytes / 7
    model = normalize(load(path))
    (gemm,) = [n for n in model.ir.graph if n.op_type == "Gemm"]
    weight = gemm.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    assert np.asarray(weight.const_value.numpy()[:2]).shape == (2, 24_000)
