"""Channels under one narrow step: their factors in closed form, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from dfqonnx.config.distillation import EqualizationConfig
from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import ChannelStatistics, QuantizationPlan
from dfqonnx.equalization.activation_balancing import (
    MAX_FACTOR,
    balance_activation_channels,
    find_balanced_quantizers,
)
from dfqonnx.equalization.equalize import EqualizedNetwork, equalize
from dfqonnx.equalization.scale_groups import find_scale_groups
from dfqonnx.errors import UsageError
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU

SPREAD = np.array([1.0, 4.0, 0.5, 0.0, 100.0])  # the fourth channel is dead
C = len(SPREAD)


def net(folder: Path, spread: NDArray[np.float64] = SPREAD) -> NormalizedModel:
    """Conv whose channels are the same map times `spread`, Relu, Conv, pooling, Gemm."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((1, 3, 3, 3))
    arrays = {
        "w": one * spread[:, None, None, None],
        "b": 0.1 * spread,
        "v": rng.standard_normal((4, C, 3, 3)) / 7,
        "g": rng.standard_normal((2, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "v"], ["d"], "second", pads=[1] * 4),
        helper.make_node("Relu", ["d"], ["s"], "relu2"),
        helper.make_node("GlobalAveragePool", ["s"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "g"], ["y"], "classifier", transB=1),
    ]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, 16, 16]), ("y", ["N", 2]))
    ]
    tensors = [numpy_helper.from_array(a.astype("f4"), name) for name, a in arrays.items()]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "net.onnx")
    return normalize(load(folder / "net.onnx"))


def quantized(model: NormalizedModel, bits: str) -> QuantizationPlan:
    return place_quantizers(
        model, QuantizationConfig(BitWidths.parse(bits)), ONNXRUNTIME_CPU, input_signed=True
    )


def factors(model: NormalizedModel, sites: QuantizationPlan, share: float) -> torch.Tensor:
    program = to_program(model)
    groups = find_scale_groups(program, sites)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    shared = find_balanced_quantizers(groups, sites)
    found = balance_activation_channels(program, shared, groups, x, strength=share)
    return groups.factors_of("r", found)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_factor_is_a_power_of_the_channels_range(tmp_path: Path, share: float) -> None:
    found = factors(net(tmp_path), quantized(net(tmp_path), "w4a4"), share).numpy()
    alive = SPREAD > 0
    mean = np.exp(np.log(SPREAD[alive]).mean())  # steps of one map times k are k times its steps
    wanted = np.clip((mean / SPREAD[alive]) ** share, 1 / MAX_FACTOR, MAX_FACTOR)
    np.testing.assert_allclose(found[alive], wanted, rtol=1e-4)
    assert found[~alive] == 1.0


def test_wholly_leveled_channels_have_one_range(tmp_path: Path) -> None:
    model = net(tmp_path, np.array([1.0, 1.5, 0.5, 2.0, 3.0]))
    program, sites = to_program(model), quantized(model, "w4a4")
    groups = find_scale_groups(program, sites)
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = balance_activation_channels(
        program, find_balanced_quantizers(groups, sites), groups, x, strength=1.0
    )
    after = ProgramModule(groups.scale(program, found), taps=("r",))(x)[1]["r"]
    tops = after.amax((0, 2, 3))
    assert float(tops.max() / tops.min()) == pytest.approx(1.0, abs=1e-4)


TWICE = "u = MatMul(x, a) p = Relu(u) v = MatMul(p, b) q = Relu(v) y = MatMul(q, d)"
ROWS = {
    "perceptron": ("float[N,12] x", "float[N,4] y", TWICE),
    "positions": ("float[N,7,12] x", "float[N,7,4] y", TWICE),
    "blocks of columns": (
        "float[N,3,4,4] x",
        "float[N,4] y",
        "u = Conv<pads=[1,1,1,1]>(x, k) f = Flatten(u) p = Relu(f) v = MatMul(p, c) q = Relu(v)"
        " y = MatMul(q, d)",
    ),
}
SIZES = {"a": (12, 6), "b": (6, 6), "c": (96, 6), "d": (6, 4), "k": (6, 3, 3, 3)}


@pytest.mark.parametrize(("fed", "made", "nodes"), ROWS.values(), ids=ROWS)
def test_channels_are_found_on_the_last_axis_and_in_blocks(
    tmp_path: Path, fed: str, made: str, nodes: str
) -> None:
    rng = np.random.default_rng(0)
    head = """<ir_version: 8, opset_import: ["": 17]> net"""
    proto = onnx.parser.parse_model(f"{head} ({fed}) => ({made}) {{ {nodes} }}")
    for name, size in SIZES.items():
        if f" {name})" in nodes:
            array = numpy_helper.from_array(rng.standard_normal(size).astype("f4"), name)
            proto.graph.initializer.append(array)
    onnx.save(proto, tmp_path / "rows.onnx")
    model = normalize(load(tmp_path / "rows.onnx"))
    sites, program = quantized(model, "w4a4"), to_program(model)
    groups = find_scale_groups(program, sites)
    (shared,) = find_balanced_quantizers(
        groups, sites
    )  # the other one feeds the classifier: 8 bits
    x = torch.randn(3, *model.input_shape, generator=torch.Generator().manual_seed(0))
    found = balance_activation_channels(program, (shared,), groups, x, strength=1.0)
    assert float(found.max() / found.min()) > 1.1
    old, new = ProgramModule(program)(x)[0], ProgramModule(groups.scale(program, found))(x)[0]
    torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5 * float(old.abs().max()))


@pytest.mark.parametrize(("bits", "count"), [("w4a4", 1), ("w8a4", 1), ("w4a8", 0), ("8", 0)])
def test_only_narrow_steps_count(tmp_path: Path, bits: str, count: int) -> None:
    model = net(tmp_path)
    sites = quantized(model, bits)
    assert (
        len(find_balanced_quantizers(find_scale_groups(to_program(model), sites), sites)) == count
    )


def reworked(model: NormalizedModel, bits: str, share: float) -> tuple[EqualizedNetwork, list[str]]:
    notes: list[str] = []

    class Noting(SilentProgress):
        def note(self, text: str) -> None:
            notes.append(text)

    made = equalize(
        to_program(model),
        quantized(model, bits),
        {"c": ChannelStatistics(np.ones(C), np.full(C, 2.0))},
        spec=EqualizationConfig(activation_balancing=share, bias_correction=True),
        inputs=InputFormat(PRESETS["cifar10"], model.input_shape),
        progress=Noting(),
    )
    return made, notes


def test_the_reworked_network_computes_what_it_did(tmp_path: Path) -> None:
    model = net(tmp_path)
    before = to_program(model)
    made, notes = reworked(model, "w4a4", 0.3)
    assert notes == ["Balanced activation channels for 1 per-tensor quantizer."]
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    old, new = (ProgramModule(program, taps=("r",))(x) for program in (before, made.program))
    # three layers in float32
    torch.testing.assert_close(new[0], old[0], rtol=1e-5, atol=1e-5 * float(old[0].abs().max()))
    by = (new[1]["r"].amax((0, 2, 3)) / old[1]["r"].amax((0, 2, 3)))[SPREAD > 0]
    assert float(by.max() / by.min()) > 2
    # what BatchNormalization knew of a channel moves with it: Relu of N(f, 2 f^2)
    plain, _ = reworked(model, "w4a4", 0.0)
    torch.testing.assert_close(
        made.moments["r"].mean[SPREAD > 0] / plain.moments["r"].mean[SPREAD > 0], by.double(),
        rtol=1e-4, atol=0.0, check_dtype=False,
    )  # fmt: skip


@pytest.mark.parametrize(("bits", "share"), [("w4a8", 0.3), ("w4a4", 0.0)])
def test_without_narrow_steps_or_wish_nothing_moves(
    tmp_path: Path, bits: str, share: float
) -> None:
    model = net(tmp_path)
    made, notes = reworked(model, bits, share)
    assert not notes
    for name, tensor in to_program(model).tensors.items():
        assert torch.equal(made.program.tensors[name], tensor)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_between_0_and_1(share: float) -> None:
    with pytest.raises(UsageError, match=r"equalization.activation_balancing .* must be in 0\.\.1"):
        EqualizationConfig(activation_balancing=share)
