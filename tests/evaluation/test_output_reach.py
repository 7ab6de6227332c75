"""How far inputs drive the outputs of a network: closed forms, and networks of known behavior."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dfqonnx.evaluation.output_reach import (
    FEWEST,
    LayerPower,
    join_reach,
    layer_power,
    measure_reach,
)
from dfqonnx.graph.last_layers import find_last_layers
from dfqonnx.graph.normalize import open_model

RNG = np.random.default_rng(0)


def build(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], outputs: dict[str, list[object]],
    path: Path, shape: tuple[int, ...] = (3, 8, 8),
) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", 1, ["N", *shape])],
        [helper.make_tensor_value_info(name, 1, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def head(path: Path) -> Path:
    nodes = [
        helper.make_node(
            "Conv", ["x", "w"], ["h"], name="first", kernel_shape=[3, 3], pads=[1] * 4
        ),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "b"], ["z"], name="last", transB=1),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    weights = {
        "w": RNG.normal(size=(16, 3, 3, 3)), "v": RNG.normal(size=(5, 16)),
        "b": 100 * RNG.normal(size=5),
    }  # fmt: skip
    return build(nodes, weights, {"p": ["N", 5]}, path)


def test_independent_features_reach_one_and_features_that_stay_reach_nothing() -> None:
    weight = RNG.normal(size=(30, 7))  # (I, O)
    free = RNG.normal(size=(4000, 30))
    power = layer_power(weight**2, free, free @ weight + 5, axis=1)
    assert join_reach([power]) == pytest.approx(1.0, abs=0.03)  # 4,000 draws, 210 weights
    still = 3 + 0.01 * free
    power = layer_power(weight**2, still, still @ weight, axis=1)
    assert join_reach([power]) == pytest.approx(0.01 / 3, rel=0.03)


def test_powers_by_hand() -> None:
    read = np.array([[1.0, 0.0], [3.0, 4.0]])  # means of squares 5 and 8
    weight = np.array([[1.0, 2.0], [0.0, 1.0]])
    z = read @ weight  # [[1, 2], [3, 10]], unbiased variances 2 and 32
    found = layer_power(weight**2, read, z, axis=1)
    assert found == LayerPower(17.0, (5 * 1 + (5 * 4 + 8 * 1)) / 2)
    maps = np.zeros((2, 2, 3, 3))
    maps[:, 0], maps[1, 1] = 2.0, 1.0
    assert layer_power(np.array([[1.0], [8.0]]), maps, maps[:, :1], axis=1) == LayerPower(
        0.0, 4 * 1 + 0.5 * 8
    )


def test_layers_in_front_of_one_output_count_together() -> None:
    parts = [LayerPower(1.0, 4.0), LayerPower(3.0, 0.0)]
    assert join_reach(parts) == 1.0
    assert join_reach([LayerPower(1.0, 0.0)]) is None
    assert join_reach([LayerPower(math.nan, 1.0)]) is None
    assert join_reach([LayerPower(1.0, math.inf)]) is None


def test_noise_free_inputs_are_told_from_driving_ones(tmp_path: Path) -> None:
    model = open_model(head(tmp_path / "net.onnx"))
    gains = RNG.uniform(0, 3, (32, 3, 1, 1))
    driving = (gains * RNG.normal(size=(32, 3, 8, 8))).astype(np.float32)
    still = (1 + 1e-3 * RNG.normal(size=(32, 3, 8, 8))).astype(np.float32)
    (high,), (low,) = measure_reach(model, driving), measure_reach(model, still)
    assert (high.output, high.inputs) == ("p", 32)
    assert high.reach > 0.1
    assert low.reach < 0.001
    assert measure_reach(model, driving[: FEWEST - 1]) == ()
    assert len(measure_reach(model, driving[:FEWEST])) == 1
    assert FEWEST == 8
    heavy = dataclasses.replace(model.source, bytes=2**30 + 1)
    assert measure_reach(dataclasses.replace(model, source=heavy), driving) == ()
    largest = dataclasses.replace(model.source, bytes=2**30)
    assert measure_reach(dataclasses.replace(model, source=largest), driving) == (high,)


def test_the_last_layers_are_those_in_front_of_outputs(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], name="tap", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["a"], name="grouped", kernel_shape=[1, 1], group=2),
        helper.make_node("Sigmoid", ["a"], ["s"]),
    ]
    weights = {"w": RNG.normal(size=(4, 3, 1, 1)), "v": RNG.normal(size=(6, 2, 1, 1))}
    path = build(nodes, weights, {"s": ["N", 6, 8, 8], "r": ["N", 4, 8, 8]}, tmp_path / "n.onnx")
    model = open_model(path)
    layers = {layer.output: layer for layer in find_last_layers(model)}
    assert {name: layer.node for name, layer in layers.items()} == {"s": "grouped", "r": "tap"}
    full = np.zeros((4, 6))
    full[:2, :3] = np.square(weights["v"][:3, :, 0, 0]).T
    full[2:, 3:] = np.square(weights["v"][3:, :, 0, 0]).T
    assert layers["s"].power == pytest.approx(full, rel=1e-6)  # float32 weights
    x = RNG.normal(size=(16, 3, 8, 8)).astype(np.float32)
    found = {each.output: each.reach for each in measure_reach(model, x)}
    # one product of independent inputs: weights and features are all there is
    assert found["r"] == pytest.approx(1.0, abs=0.1)
    assert found.keys() == {"s", "r"}
