"""Inputs that show how far activations can reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.data.guess_input_format import NOISE
from dfqonnx.data.structured_fields import structured_fields
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.synthesis.range_probes import FIELDS, count_probes, make_range_probes, seek_inputs
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.synthesis.tiny import program, tiny

FRAMES, BANDS = 24, 16
FIELD = InputFormat(NOISE, (FRAMES, BANDS))


def listener(folder: Path) -> tuple[Program, QuantizationPlan]:
    """A detector of what is smooth: white noise averages out before its last two layers."""
    rng = np.random.default_rng(3)
    blur = rng.uniform(0.5, 1.5, (6, 1, 5, 5)) / 25 * np.array([1, -1] * 3).reshape(6, 1, 1, 1)
    arrays = {
        "w": blur, "b": np.full(6, -0.2), "w1": rng.normal(0, 0.5, (6, 8)) + 0.3,
        "b1": np.zeros(8), "w2": rng.normal(0, 0.5, (8, 3)), "b2": np.zeros(3),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(v.astype("f4"), name) for name, v in arrays.items()]
    tensors.append(numpy_helper.from_array(np.array([1]), "axes"))
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["image"]),
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[2, 2, 2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalMaxPool", ["r"], ["top"]),
        helper.make_node("Flatten", ["top"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["hr"]),
        helper.make_node("Gemm", ["hr", "w2", "b2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "listener",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FRAMES, BANDS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "listener.onnx")
    opened = normalize(load(folder / "listener.onnx"))
    config = QuantizationConfig(BitWidths(8, 8))
    return to_program(opened), place_quantizers(opened, config, ONNXRUNTIME_CPU, input_signed=True)


def fields(count: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.concatenate(list(structured_fields(count, (FRAMES, BANDS, 1), rng))))


def noise(count: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    values = rng.normal(127.5, 127.5 / 4, (count, FRAMES, BANDS, 1))
    return torch.from_numpy(values.round().clip(0, 255).astype(np.uint8))


def signal_to_noise(student: Student, program: Program, x: Tensor) -> float:
    """Decibels over the variance of the output."""
    with torch.no_grad():
        wanted, found = ProgramModule(program)(x)[0], student(x)[0]
    power = (wanted - wanted.mean(0)).square().mean() / (found - wanted).square().mean()
    return 10 * float(power.log10())


def test_last_layers_that_noise_never_drives_need_fields_or_at_least_probes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    network, plan = listener(tmp_path)
    own, x = noise(512, 0), FIELD.to_tensor(fields(100, 7))
    student = Student(network, plan)
    student.initialize([FIELD.to_tensor(own)])
    assert signal_to_noise(student, network, x) < 0
    names = [q.spec.tensor for q in student.quantizers()]
    probes = make_range_probes(network, FIELD, own, names=names, batch=4, seed=0)
    student.initialize([FIELD.to_tensor(own)], probes=probes, probability=0.05)
    assert signal_to_noise(student, network, x) > 8
    student.initialize([FIELD.to_tensor(fields(512, 1))])
    assert signal_to_noise(student, network, x) > 25


def test_few_inputs_that_are_no_images_get_as_many_fields_as_it_takes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    network, plan = listener(tmp_path)
    x = FIELD.to_tensor(fields(100, 7))
    student = Student(network, plan)

    def measure(count: int, seed: int) -> float:
        own = noise(count, 0)
        found = list(make_range_probes(network, FIELD, own, names=["r"], batch=64, seed=seed))
        assert sum(map(len, found)) == 2 * count_probes(count) + FIELDS
        student.initialize([FIELD.to_tensor(own)], probes=found, probability=0.05)
        return signal_to_noise(student, network, x)

    assert min(measure(16, seed) for seed in range(3)) >= measure(512, 0)  # which is never short


def test_sought_inputs_reach_at_least_as_far_as_noise_and_stay_in_the_valid_range(
    tmp_path: Path,
) -> None:
    network, _ = listener(tmp_path)
    names = ("r", "flat", "hr")
    net = ProgramModule(network, taps=dict.fromkeys(names))
    start = FIELD.to_tensor(noise(48, 0))
    other = net(FIELD.to_tensor(noise(48, 1)))[1]
    for name in names:
        generator = torch.Generator().manual_seed(0)
        found = seek_inputs(net, FIELD, start, targets=[name] * 48, generator=generator)
        assert float(net(found)[1][name].max()) > float(other[name].max())
        assert found.shape == start.shape
        assert -4 <= float(found.min()) < float(found.max()) <= 4


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_get_probes_of_four_kinds_in_the_layout_of_the_model(
    tmp_path: Path, layout: str
) -> None:
    model = tiny(tmp_path, layout=layout)
    inputs = InputFormat(PRESETS["cifar10"].fitted(model.input_shape), model.input_shape)
    own = torch.randint(0, 256, (64, 16, 16, 3), generator=torch.Generator().manual_seed(0)).byte()
    batches = list(make_range_probes(program(model), inputs, own, names=["r"], batch=5, seed=0))
    found = torch.cat(batches)
    assert found.shape == (4 * count_probes(64), *model.input_shape)
    again = torch.cat(
        list(make_range_probes(program(model), inputs, own, names=["r"], batch=5, seed=0))
    )
    assert torch.equal(found, again)
    low, high = inputs.pixel_limits(3)
    images = inputs.from_layout(found)
    slack = 1e-5  # float32
    assert (images >= torch.from_numpy(low) - slack).all()
    assert (images <= torch.from_numpy(high) + slack).all()


def test_a_sought_input_is_moved_smoothly(tmp_path: Path) -> None:
    network, _ = listener(tmp_path)
    net = ProgramModule(network, taps=["hr"])
    start = torch.zeros(8, FRAMES, BANDS) + 0.5
    generator = torch.Generator().manual_seed(0)
    moved = seek_inputs(net, FIELD, start, targets=["hr"] * 8, generator=generator) - start
    neighbors = np.corrcoef(moved[:, 1:].flatten(), moved[:, :-1].flatten())[0, 1]
    assert neighbors > 0.8  # a sharp gradient, of 5x5 windows, is no smoother than its windows
    assert float(moved.square().mean().sqrt()) <= 4 * 0.02 * 8 + 1e-6  # steps, over the range of 8


@pytest.mark.parametrize(("images", "count"), [(0, 2), (16, 2), (160, 10), (5000, 32)])
def test_a_run_of_few_images_takes_few_probes(images: int, count: int) -> None:
    assert count_probes(images) == count
