"""Real networks of many exporters: same numbers after normalizing, and the facts that hold.

The networks are those of the manifest beside the repository. Where it is absent they are skipped.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest

from dfqonnx.graph.load import load
from dfqonnx.graph.model import ORIGIN, NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.graph.passes.edit import get_constant, get_shape
from dfqonnx.graph.passes.input_sizes import get_concrete_shape
from tests.conftest import SHARED
from tests.graph.smallnets import assert_same, operators

MANIFEST = SHARED / "models" / "manifest.json"
ENTRIES: dict[str, dict[str, Any]] = {  # empty where the manifest is absent
    e["file"].removeprefix("models/").removesuffix(".onnx"): e
    for e in (json.loads(MANIFEST.read_text(encoding="utf-8")) if MANIFEST.is_file() else [])
}
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
    # from here on the manifest's words and counts: all kept, or only so many left
    "efficientnet_lite0_bn": ("present", 49, None),
    "efficientnet_lite0_folded": ("absent", 0, None),
    "third_party/winml_style_candy": ("absent", 0, None),
    "third_party/ppocr_rec": ("partly", 6, None),
    "third_party/ppocr_cls": ("present", 35, None),
    "third_party/ppocr_det": ("partly", 3, None),
    "third_party/mlperf/vww_mobilenetv1_025_96_bn": ("present", 27, None),
    "third_party/mlperf/ad_autoencoder_bn": ("present", 9, None),
    "third_party/mlperf/kws_dscnn_bn": ("present", 9, None),
}
NAMES = list(ENTRIES or KNOWN)
SIZES = {  # instead of the size that the manifest feeds
    # Noise of 480 x 640 shows no text: the largest output is 0.002, float32 noise 1e-4 of it.
    "third_party/ppocr_det": (224, 224),
}
TOLERANCES = {  # 62 Conv, and the sigmoid at the end: relative errors are the logits' absolute ones
    "third_party/ppocr_det": 5e-5,
}


@cache
def normal(shared: Path, name: str) -> NormalizedModel:
    """Load and normalize once; tests only read it."""
    feeds = ENTRIES[name].get("feed", {}).values()
    fed = next((tuple(shape[2:]) for shape in feeds), None)
    path = shared / "models" / f"{name}.onnx"
    return normalize(load(path), image_size=SIZES.get(name, fed))


@pytest.mark.parametrize("name", NAMES)
def test_normalizing_keeps_the_numbers_at_any_batch(shared: Path, name: str) -> None:
    proto = onnx.load(shared / "models" / f"{name}.onnx")
    assert_same(proto, normal(shared, name), tolerance=TOLERANCES.get(name, 1e-5))


@pytest.mark.parametrize("name", NAMES)
def test_every_batchnorm_of_the_file_is_counted_and_none_is_made_up(
    shared: Path, name: str
) -> None:
    model, count = normal(shared, name), ENTRIES[name]["batchnorm_nodes"]
    assert (model.batchnorm_nodes, len(model.statistics)) == (count, count)
    assert (model.batchnorm == "absent") is (count == 0)


@pytest.mark.parametrize("name", KNOWN)
def test_operators_and_batchnorm_state_are_the_known_ones(shared: Path, name: str) -> None:
    state, statistics, known = KNOWN[name]
    model = normal(shared, name)
    assert (model.batchnorm, len(model.statistics)) == (state, statistics)
    if known is not None:
        assert operators(model) == known


@pytest.mark.parametrize("name", NAMES)
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
            assert all(get_constant(v) is not None for v in node.inputs[1:3])
            assert len(node.inputs) == 3
        for value in node.outputs:
            shape = get_concrete_shape(value) if model.open_axes else get_shape(value)
            assert value.type is not None
            assert shape is not None
            assert None not in shape


@pytest.mark.parametrize("name", NAMES)
def test_the_users_names_shapes_and_metadata_are_remembered(shared: Path, name: str) -> None:
    proto, model = onnx.load(shared / "models" / f"{name}.onnx"), normal(shared, name)
    assert [p.name for p in model.contract.outputs] == [o.name for o in proto.graph.output]
    assert [v.name for v in model.ir.graph.outputs] == [o.name for o in proto.graph.output]
    assert [v.name for v in model.ir.graph.inputs] == [model.contract.inputs[0].name]
    declared = proto.graph.input[0].type.tensor_type.shape.dim
    shape = [None if d.dim_value < 0 else d.dim_value or d.dim_param for d in declared]
    assert model.contract.inputs[0].shape == tuple(shape)


def test_statistics_follow_the_value_that_the_batchnorm_made(shared: Path) -> None:
    model = normal(shared, "cifar10_resnet20_bn")
    values = {v.name: v for n in model.ir.graph for v in n.outputs}
    for name, statistics in model.statistics.items():
        assert (
            (get_shape(values[name]) or ())[1] == len(statistics.mean) == len(statistics.variance)
        )
        producer = values[name].producer()
        assert producer is not None
        assert producer.op_type == "Conv"


def test_left_over_batchnorms_of_a_pre_activation_network_are_tagged(shared: Path) -> None:
    model = normal(shared, "cifar10_wrn16_1_folded")
    tagged = [n for n in model.ir.graph if n.metadata_props.get(ORIGIN) == "BatchNormalization"]
    assert len(tagged) == 7
    assert {n.outputs[0].name for n in tagged} == set(model.statistics)


def test_removed_experimental_operators_are_written_anew(shared: Path) -> None:
    model = normal(shared, "third_party/winml_style_candy")
    assert not {"ImageScaler", "Crop", "Affine"} & set(operators(model))
    assert operators(model)["Slice"] == 7


def test_the_network_that_ships_with_the_project_normalizes(root: Path) -> None:
    path = root / "models" / "resnet20.onnx"
    if not path.is_file():
        pytest.skip("models/resnet20.onnx is not in this checkout")
    model = normalize(load(path))
    assert_same(onnx.load(path), model)
    assert model.batchnorm == "present"
