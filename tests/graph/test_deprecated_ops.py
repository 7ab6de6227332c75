"""ONNX's first operators: ONNX Runtime still computes them, so it judges what we write instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from dfqonnx.graph.model import NormalizedModel
from tests.graph.smallnets import assert_same, image_batch, operators, through
from tests.graph.smallnets import run as ort_run

FORMS = [
    ("ImageScaler", {"scale": 0.5, "bias": [1.0, -2.0, 3.0]}),
    ("ImageScaler", {"bias": [1.0, -2.0, 3.0]}),
    ("Affine", {"alpha": 1.5, "beta": -0.5}),
    ("Affine", {"alpha": 1.0, "beta": 0.0}),
    ("ScaledTanh", {"alpha": 1.7, "beta": 0.6}),
    ("ParametricSoftplus", {"alpha": 0.9, "beta": 1.1}),
    ("Crop", {"border": [1, 2, 3, 0]}),
    ("Crop", {"border": [1, 2, 0, 0], "scale": [4, 5]}),
]


def network(op: str, attributes: dict, opset: int = 7) -> onnx.ModelProto:
    """Image -> the operator -> Conv."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 3, 3)).astype("f4")
    nodes = [
        helper.make_node(op, ["x"], ["a"], name="old", **attributes),
        helper.make_node("Conv", ["a", "w"], ["y"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, "H", "W"])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


@pytest.mark.parametrize(("op", "attributes"), FORMS, ids=lambda part: str(part)[:30])
def test_the_standard_form_computes_what_the_runtime_does(
    op: str, attributes: dict, tmp_path: Path
) -> None:
    original = network(op, attributes)
    _, model = through(original, tmp_path)
    assert op not in operators(model)
    assert_same(original, model)


@pytest.mark.parametrize("opset", [9, 10, 13])
def test_a_crop_is_a_slice_at_any_opset(opset: int, tmp_path: Path) -> None:
    """ONNX Runtime drops Crop from opset 10 on, so the slice is made here."""
    _, model = through(network("Crop", {"border": [1, 2, 3, 4]}, opset), tmp_path)
    x = image_batch(model, 2)
    plain = network("Identity", {}, opset)
    plain.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 12 - 2 - 4
    plain.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 10 - 1 - 3
    expected = ort_run(plain.SerializeToString(), x[:, :, 2:8, 1:7])
    found = ort_run(onnx.ModelProto.SerializeToString(_proto(model)), x)
    # float32 sums of 27 products in another order
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)


def _proto(model: NormalizedModel) -> onnx.ModelProto:
    return ir.to_proto(model.ir)
