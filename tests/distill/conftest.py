"""A tiny trained-looking classifier, its student and random images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.synthesis.budget import SynthesisPlan
from dfqonnx.synthesis.synthesize import SyntheticImages
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU

INPUTS = InputFormat(
    Preprocessing(name="test", scale=255.0, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)), (3, 8, 8)
)


def synthetic(pixels: np.ndarray) -> SyntheticImages:
    """Images as synthesis hands them over, all of one kind."""
    kinds = np.zeros(len(pixels), np.int64)
    plan = SynthesisPlan(
        images=len(pixels), optimized=0, batch=1, first_batch_steps=0, batch_steps=0
    )
    return SyntheticImages(
        pixels=pixels, source="test", reason="", plan=plan, seconds=0.0, kinds=kinds
    )


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network() -> onnx.ModelProto:
    rng = np.random.default_rng(3)

    def tensor(name: str, *shape: int) -> onnx.TensorProto:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 10
        return numpy_helper.from_array(
            (rng.normal(size=shape) * (2 / fan) ** 0.5).astype("f4"), name
        )

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "conv0", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Add", ["c1", "r0"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["r1"], "relu1"),
        helper.make_node("Flatten", ["r1"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["y"], "fc", transB=1),
    ]  # fmt: skip
    weights = [
        tensor("w0", 8, 3, 3, 3), tensor("b0", 8), tensor("w1", 8, 8, 3, 3), tensor("b1", 8),
        tensor("w2", 10, 8 * 16), tensor("b2", 10),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 10])],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, QuantizationPlan]:
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(network(), path)
    model = normalize(load(path))
    sites = place_quantizers(
        model, QuantizationConfig(BitWidths(3, 3)), ONNXRUNTIME_CPU, input_signed=True
    )
    return to_program(model), sites


@pytest.fixture
def student(tiny: tuple[Program, QuantizationPlan]) -> Student:
    return Student(*tiny)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (512, 8, 8, 3), dtype=np.uint8)
