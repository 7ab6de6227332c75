"""Real networks of many exporters: same numbers after normalising, and the facts that hold."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from dfqonnx.graph.load import load
from dfqonnx.graph.model import ORIGIN, Model
from dfqonnx.graph.normalise import normalise
from dfqonnx.graph.passes.edit import constant, dims
from tests.graph.smallnets import assert_same, operators, real_model

CIFAR_10 = {
    "Conv": 19,
    "Relu": 19,
    "Add": 9,
    "Gemm": 1,
    "GlobalAveragePool": 1,
    "Slice": 4,
    "Pad": 2,
}
KNOWN = {  # file -> batch norm state, statistics, operators
    "cifar10_resnet20_bn": ("present", 19, CIFAR_10 | {"Flatten": 1}),
    "cifar10_resnet20_folded": ("absent", 0, CIFAR_10 | {"Flatten": 1}),
    "cifar10_resnet20_dynamo": ("absent", 0, CIFAR_10 | {"Reshape": 1}),
    "cifar10_resnet56_bn": ("present", 55, None),
    "cifar10_resnet56_folded": ("absent", 0, None),
    "cifar10_wrn16_1_bn": ("present", 13, None),
    "cifar10_wrn16_1_folded": ("partly", 7, None),
    "imagenet_mobilenetv1_025_bn": (
        "present",
        27,
        {"Conv": 27, "Clip": 27, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    ),
    "imagenet_mobilenetv1_025_nhwc_folded": (
        "absent",
        0,
        {
            "Transpose": 1,
            "Conv": 27,
            "Clip": 27,
            "GlobalAveragePool": 1,
            "Flatten": 1,
            "Gemm": 1,
            "Softmax": 1,
        },
    ),
    "own_resnet20_cifar10": (
        "present",
        21,
        {"Conv": 21, "Relu": 19, "Add": 9, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1},
    ),
    "third_party/cntk_mnist": (
        "absent",
        0,
        {"Conv": 2, "Relu": 2, "MaxPool": 2, "Reshape": 1, "Gemm": 1},
    ),
    "third_party/winml_cifar10_cnn": ("absent", 0, None),
    "third_party/stm_mobilenetv2_050_128": ("partly", 7, None),
    "third_party/dnsmos_p808": ("absent", 0, None),
    "third_party/fastestdet_coco": ("absent", 0, None),
    "third_party/ultraface_rfb320": ("partly", 35, None),
}


def normal(shared: Path, name: str) -> Model:
    return real_model(shared / "models" / f"{name}.onnx")


@pytest.mark.parametrize("name", KNOWN)
def test_normalising_keeps_the_numbers_at_any_batch(shared: Path, name: str) -> None:
    path = shared / "models" / f"{name}.onnx"
    assert_same(onnx.load(path), real_model(path))


@pytest.mark.parametrize("name", KNOWN)
def test_operators_and_batchnorm_state_are_the_known_ones(shared: Path, name: str) -> None:
    state, statistics, known = KNOWN[name]
    model = normal(shared, name)
    assert (model.batchnorm, len(model.statistics)) == (state, statistics)
    if known is not None:
        assert operators(model) == known


@pytest.mark.parametrize("name", KNOWN)
def test_the_normal_form_holds(shared: Path, name: str) -> None:
    model = normal(shared, name)
    nodes = list(model.ir.graph)
    assert model.ir.graph.opset_imports == {"": 21}
    assert {n.domain for n in nodes} == {""}
    assert len({n.name for n in nodes}) == len(nodes)
    banned = {"BatchNormalization", "Identity", "Dropout", "Constant", "Shape", "ReduceMean"}
    assert not banned & set(operators(model))
    for node in nodes:
        if node.op_type in {"Conv", "Gemm"}:
            assert "auto_pad" not in node.attributes
            assert all(constant(v) is not None for v in node.inputs[1:3])
            assert len(node.inputs) == 3
        for value in node.outputs:
            shape = dims(value)
            assert value.type is not None
            assert shape is not None
            assert None not in shape


@pytest.mark.parametrize("name", KNOWN)
def test_the_users_names_shapes_and_metadata_are_remembered(shared: Path, name: str) -> None:
    path = shared / "models" / f"{name}.onnx"
    proto, model = onnx.load(path), normal(shared, name)
    assert [p.name for p in model.contract.outputs] == [o.name for o in proto.graph.output]
    assert [v.name for v in model.ir.graph.outputs] == [o.name for o in proto.graph.output]
    assert [v.name for v in model.ir.graph.inputs] == [model.contract.inputs[0].name]
    declared = proto.graph.input[0].type.tensor_type.shape.dim
    assert model.contract.inputs[0].shape == tuple(d.dim_value or d.dim_param for d in declared)


def test_statistics_follow_the_value_that_the_batchnorm_made(shared: Path) -> None:
    model = normal(shared, "cifar10_resnet20_bn")
    values = {v.name: v for n in model.ir.graph for v in n.outputs}
    for name, statistics in model.statistics.items():
        assert (dims(values[name]) or ())[1] == len(statistics.mean) == len(statistics.variance)
        producer = values[name].producer()
        assert producer is not None
        assert producer.op_type == "Conv"


def test_left_over_batchnorms_of_a_pre_activation_network_are_tagged(shared: Path) -> None:
    model = normal(shared, "cifar10_wrn16_1_folded")
    tagged = [n for n in model.ir.graph if n.metadata_props.get(ORIGIN) == "BatchNormalization"]
    assert len(tagged) == 7
    assert {n.outputs[0].name for n in tagged} == set(model.statistics)


def test_removed_experimental_operators_are_written_anew(shared: Path) -> None:
    model = normalise(load(shared / "models" / "third_party" / "winml_style_candy.onnx"))
    assert not {"ImageScaler", "Crop", "Affine"} & set(operators(model))
    assert operators(model)["Slice"] == 7


def test_the_manifest_holds_no_classifier_that_is_not_tried_here(shared: Path) -> None:
    manifest = json.loads((shared / "models" / "manifest.json").read_text())
    entries = manifest if isinstance(manifest, list) else manifest["models"]
    files = {e["file"].removeprefix("models/").removesuffix(".onnx") for e in entries}
    assert files - set(KNOWN) <= {"third_party/winml_style_candy"}


def test_the_network_that_ships_with_the_project_normalises(root: Path) -> None:
    path = root / "models" / "resnet20.onnx"
    if not path.is_file():
        pytest.skip("models/resnet20.onnx is not in this checkout")
    model = normalise(load(path))
    assert_same(onnx.load(path), model)
    assert model.batchnorm == "present"
