"""Couplings against placement itself: a quantizer goes where all that need it are in float."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from dfqonnx.core.quantization import BitWidths, NodeRules, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.couplings import (
    find_computing_nodes,
    find_quantizer_uses,
    list_other_nodes,
)
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.fakequant.conftest import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> NormalizedModel:
    path: Path = tmp_path_factory.mktemp("couplings") / "tiny.onnx"
    onnx.save(tiny_model(), path)
    return normalize(load(path))


def place(model: NormalizedModel, activations: int, *floats: str) -> QuantizationPlan:
    return place_quantizers(
        model,
        QuantizationConfig(BitWidths(8, activations)),
        ONNXRUNTIME_CPU,
        input_signed=True,
        rules=NodeRules(keep_float=floats),
    )


def test_a_residual_sum_couples_its_readers_its_operands_and_its_maker(
    model: NormalizedModel,
) -> None:
    uses = {use.name: use for use in find_quantizer_uses(model, place(model, 8))}
    assert (uses["r2"].layers, uses["r2"].others) == (("conv3",), ())
    assert uses["r2"].maker == "add"
    assert uses["c2"].others == ("add",)
    assert uses["c2"].maker == "conv2"
    assert (uses["r0"].layers, uses["r0"].others) == (("conv1",), ("add",))
    assert uses["x"].maker is None


def test_narrow_readings_are_quantizers_of_their_own(model: NormalizedModel) -> None:
    uses = {use.name: use for use in find_quantizer_uses(model, place(model, 4))}
    assert uses["p0@4"].layers == ("conv1",)
    assert uses["p0@4"].others == ()
    assert uses["r0"].layers == ()
    assert uses["r0"].others == ("add",)


@pytest.mark.parametrize("name", ["x", "r0", "r1", "c2", "r2", "r3"])
def test_a_quantizer_goes_with_the_last_node_that_needs_it(
    model: NormalizedModel, name: str
) -> None:
    plan = place(model, 8)
    (use,) = (each for each in find_quantizer_uses(model, plan) if each.name == name)
    users = dict.fromkeys((*use.layers, *use.others, *([use.maker] if use.maker else [])))
    without = place(model, 8, *users)
    assert name not in {quantizer.name for quantizer in without.activations}
    for kept in users:
        others = [user for user in users if user != kept]
        left = place(model, 8, *others)
        assert name in {quantizer.name for quantizer in left.activations}, kept


def test_nodes_without_a_weight_are_listed_once(model: NormalizedModel) -> None:
    plan = place(model, 8)
    layers = {weight.node: weight for weight in plan.weights}
    assert list_other_nodes(find_quantizer_uses(model, plan), layers) == ["add", "gap"]


def test_a_kernel_named_after_its_relu_is_that_of_the_node_before_it(
    model: NormalizedModel,
) -> None:
    """ONNX Runtime calls the fused Conv and Relu after what the Relu makes."""
    owners = find_computing_nodes(model, ONNXRUNTIME_CPU)
    assert owners["r1"] == owners["conv1"] == "conv1"
    assert owners["r2"] == owners["add"] == "add"
    assert owners["c2"] == "conv2"
