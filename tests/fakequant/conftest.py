"""A small network with everything a student meets: residual, ReLU6, pooling, a narrow reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU

CHANNELS, CLASSES = 8, 5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def tiny_model() -> onnx.ModelProto:
    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 10
        return numpy_helper.from_array((rng.normal(size=shape) / fan**0.5).astype("f4"), name)

    c = CHANNELS
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["c0", "low", "high"], ["r0"], "relu6"),
        helper.make_node("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p0", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "p0"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "conv3", group=c),
        helper.make_node("Relu", ["c3"], ["r3"], "relu3"),
        helper.make_node("GlobalAveragePool", ["r3"], ["gap"], "gap"),
        helper.make_node("Flatten", ["gap"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w4", "b4"], ["y"], "fc", transB=1),
    ]
    weights = [
        tensor("w0", c, 3, 3, 3), tensor("b0", c), tensor("w1", c, c, 3, 3), tensor("b1", c),
        tensor("w2", c, c, 3, 3), tensor("b2", c), tensor("w3", c, 1, 3, 3), tensor("b3", c),
        tensor("w4", CLASSES, c), tensor("b4", CLASSES),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(6), "high"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", CLASSES])],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, QuantizationPlan]:
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(tiny_model(), path)
    model = normalize(load(path))
    sites = place_quantizers(
        model, QuantizationConfig(BitWidths(4, 4)), ONNXRUNTIME_CPU, input_signed=True
    )
    return to_program(model), sites


@pytest.fixture
def images() -> torch.Tensor:
    return 2.0 * torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))
