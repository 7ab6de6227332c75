"""Data-free quantization (Nagel et al.): equalization, absorption, bias correction, ranges."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from scipy import integrate, stats

from dfqonnx.convert.importer import to_program
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import ChannelStatistics, QuantizationPlan
from dfqonnx.equalization.bias_absorption import absorb_high_bias
from dfqonnx.equalization.cross_layer import equalize_cross_layer
from dfqonnx.equalization.expected_moments import (
    ActivationMoments,
    propagate_moments,
    rectified_moments,
)
from dfqonnx.equalization.layers import find_layer_pairs, max_magnitudes
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.ptq.bias_correction import (
    correct_bias,
    measure_means,
    output_shift,
    set_activation_ranges,
)
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU

C = 6


def mobile(
    folder: Path, *, ceiling: float = 6.0, pad: int = 1, norm: bool = True
) -> NormalizedModel:
    """Conv-BN-ReLU6, depthwise-BN-PRelu, Conv-ReLU, Flatten of 4 x 4, Gemm; ranges far apart."""
    rng = np.random.default_rng(3)
    spread = 10.0 ** rng.uniform(-2, 2, C)  # what equalization is for

    def numbers(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.asarray(rng.normal(size=shape) / math.prod(shape[1:]) ** 0.5)

    arrays = {
        "w0": numbers(C, 3, 3, 3), "g0": rng.uniform(0.3, 0.9, C), "s0": rng.normal(0.5, 0.3, C),
        "mu0": rng.normal(size=C), "v0": rng.uniform(0.5, 2, C),
        "w1": numbers(C, 1, 3, 3) * spread[:, None, None, None], "g1": rng.uniform(0.5, 2, C),
        "s1": rng.normal(size=C), "mu1": rng.normal(size=C), "v1": rng.uniform(0.5, 2, C),
        "slope": rng.uniform(0.1, 0.3, (C, 1, 1)),
        "w2": numbers(4, C, 1, 1), "b2": rng.normal(size=4),
        "w3": numbers(5, 4 * 16), "b3": rng.normal(size=5),
        "low": np.float32(0), "high": np.float32(ceiling),
    }  # fmt: skip
    bn = ["g", "s", "mu", "v"]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "conv0", pads=[pad] * 4),
        helper.make_node("BatchNormalization", ["c0", *(f"{n}0" for n in bn)], ["n0"], "bn0"),
        helper.make_node("Clip", ["n0" if norm else "c0", "low", "high"], ["r0"], "relu6"),
        helper.make_node(
            "Conv", ["r0", "w1"], ["c1"], "dw", group=C, pads=[pad] * 4, strides=[2, 2]
        ),
        helper.make_node("BatchNormalization", ["c1", *(f"{n}1" for n in bn)], ["n1"], "bn1"),
        helper.make_node("PRelu", ["n1" if norm else "c1", "slope"], ["r1"], "prelu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], "relu"),
        helper.make_node("Flatten", ["r2"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "fc", transB=1),
    ]
    nodes = [node for node in nodes if norm or node.op_type != "BatchNormalization"]
    used = {name for node in nodes for name in node.input}
    side = 8 if pad else 12
    graph = helper.make_graph(
        nodes, "mobile",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 5])],
        [
            numpy_helper.from_array(np.asarray(a, np.float32), n)
            for n, a in arrays.items() if n in used
        ],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "mobile.onnx"
    onnx.save(proto, path)
    return normalize(load(path))


def parts(model: NormalizedModel) -> tuple[Program, QuantizationPlan]:
    return to_program(model), place_quantizers(
        model, QuantizationConfig(BitWidths(4, 4)), ONNXRUNTIME_CPU, input_signed=True
    )


def noise(side: int, count: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_an_equalized_network_computes_what_it_did(tmp_path: Path) -> None:
    model = mobile(tmp_path, ceiling=1e6)  # nothing reaches it
    program, sites = parts(model)
    equal = equalize_cross_layer(program, sites, model.statistics)
    assert [(p.first.spec.node, p.second.spec.node) for p in equal.pairs] == [
        ("conv0", "dw"), ("dw", "conv2"), ("conv2", "fc"),
    ]  # fmt: skip
    assert equal.removed_clips == ("relu6",)
    x = noise(8)
    before, after = ProgramModule(program)(x)[0], ProgramModule(equal.program)(x)[0]
    scale = float(before.abs().max())  # weights moved by up to 1e2; float32 keeps 6e-8 of a sum
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5 * scale)
    moved = equal.program.tensors["w2"] - program.tensors["w2"]
    assert float(moved.abs().max()) > 0.1


def test_ranges_of_both_sides_are_equal_when_sweeping_has_ended(tmp_path: Path) -> None:
    model = mobile(tmp_path)
    program, sites = parts(model)
    equal = equalize_cross_layer(program, sites, model.statistics)
    assert 2 < equal.sweeps < 50
    apart = []
    for tensors in (program.tensors, equal.program.tensors):
        for pair in equal.pairs:
            first = max_magnitudes(pair.first.out_rows(tensors[pair.first.spec.weight]))
            rows = pair.second.in_rows(tensors[pair.second.spec.weight])
            second = max_magnitudes(rows.reshape(len(first), -1))
            apart.append(float((first / second).log().abs().max()))
    assert max(apart[:3]) > 1.0
    assert max(apart[3:]) < 1e-4  # STILL is 1e-5 a sweep; neighboring pairs move each other


def test_in_rows_of_a_grouped_conv_are_the_weights_that_read_a_channel(tmp_path: Path) -> None:
    model = mobile(tmp_path)
    program, sites = parts(model)
    (first, second, _) = find_layer_pairs(program, sites, clips={"relu6"})
    depthwise = second.first
    torch.testing.assert_close(
        depthwise.in_rows(program.tensors["w1"]), program.tensors["w1"].reshape(C, -1)
    )
    grouped = dataclasses.replace(depthwise, group=2)
    weight = torch.randn(4, 3, 2, 2)  # 6 inputs in two groups of 3, 4 outputs in two of 2
    rows = grouped.in_rows(weight)
    assert rows.shape == (6, 8)
    torch.testing.assert_close(rows[4], weight[2:, 1].reshape(-1))
    factors = torch.arange(1.0, 7.0)
    torch.testing.assert_close(
        grouped.in_rows(grouped.scale_inputs(weight, factors)), rows * factors[:, None]
    )
    assert first.between == ("Clip",)


def test_a_ceiling_that_cuts_stays_and_its_layers_are_no_pair(tmp_path: Path) -> None:
    model = mobile(tmp_path, ceiling=0.5)  # of values around 0.5
    program, sites = parts(model)
    equal = equalize_cross_layer(program, sites, model.statistics)
    assert equal.removed_clips == ()
    assert [p.first.spec.node for p in equal.pairs] == ["dw", "conv2"]
    assert equal.plan == sites
    without = mobile(tmp_path, norm=False)  # nothing is known: the ceiling stays as well
    assert equalize_cross_layer(*parts(without), without.statistics).removed_clips == ()


def test_statistics_follow_the_scaled_channels(tmp_path: Path) -> None:
    model = mobile(tmp_path, ceiling=1e6)
    program, sites = parts(model)
    equal = equalize_cross_layer(program, sites, model.statistics)
    x = noise(8, 64)
    for name, before in model.statistics.items():
        after = equal.statistics[name]
        values = [
            ProgramModule(p, taps=(name,), outputs=())(x)[1][name] for p in (program, equal.program)
        ]
        ratio = (values[1].std((0, 2, 3)) / values[0].std((0, 2, 3))).numpy()
        np.testing.assert_allclose(after.mean, before.mean * ratio, rtol=1e-4)  # float32 sums
        np.testing.assert_allclose(after.variance, before.variance * ratio**2, rtol=1e-4)


def test_a_rectified_gaussian_has_the_second_moment_that_integration_finds() -> None:
    for mean, deviation in ((0.3, 1.2), (-2.0, 0.5), (4.0, 1.0)):
        density = stats.norm(mean, deviation).pdf
        wanted = integrate.quad(lambda x, pdf=density: x * x * pdf(x), 0, mean + 12 * deviation)[0]
        found = rectified_moments(*torch.tensor([mean, deviation**2]).double())[1]
        assert float(found) == pytest.approx(wanted, rel=1e-5)  # float32 inputs


def test_absorbing_changes_nothing_where_no_value_falls_below_what_moved(tmp_path: Path) -> None:
    model = mobile(tmp_path, ceiling=1e6, pad=0)
    program, sites = parts(model)
    equal = equalize_cross_layer(program, sites, model.statistics)
    x = noise(12)
    pairs = [p for p in equal.pairs if p.first.spec.node in {"conv0", "conv2"}]
    statistics = {}
    for pair in pairs:  # low enough that c lies below every value of this batch
        value = ProgramModule(equal.program, taps=(pair.first.output,), outputs=())(x)[1][
            pair.first.output
        ]
        lift = 1.0 + value.amin((0, 2, 3)).neg().clamp_min(0)  # makes every value positive
        equal.program.tensors[str(pair.first.spec.bias)].add_(lift)  # type: ignore[arg-type]
        value = value + lift[:, None, None]
        least = value.amin((0, 2, 3))
        statistics[pair.first.output] = ChannelStatistics(
            (least + 2.9).numpy(), np.ones(len(least), np.float32)
        )
    lifted = dataclasses.replace(equal, statistics=statistics)
    moved = absorb_high_bias(lifted)
    before, after = ProgramModule(lifted.program)(x)[0], ProgramModule(moved.program)(x)[0]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)  # float32, sums up to 1e1
    for pair in pairs:
        bias = str(pair.first.spec.bias)
        assert bool((moved.program.tensors[bias] < lifted.program.tensors[bias]).any())


def test_a_clipped_gaussian_has_the_moments_that_integration_finds() -> None:
    mean, deviation, ceiling = 2.0, 1.5, 6.0
    pdf = stats.norm(mean, deviation).pdf
    inside = [
        integrate.quad(lambda x, k=k: x**k * pdf(x), 0, ceiling)[0]
        + ceiling**k * stats.norm(mean, deviation).sf(ceiling)
        for k in (1, 2)
    ]
    value = ActivationMoments.gaussian(
        torch.tensor([mean]).double(), torch.tensor([deviation**2]).double()
    )
    found = value.clipped(ceiling)
    assert float(found.mean) == pytest.approx(inside[0], rel=1e-9)  # closed form, in doubles
    assert float(found.variance) == pytest.approx(inside[1] - inside[0] ** 2, rel=1e-8)
    assert (float(found.low), float(found.high)) == (0.0, 6.0)
    assert float(value.high) == mean + 6 * deviation


def test_bias_correction_restores_the_mean_of_every_output_of_a_linear_layer(
    tmp_path: Path,
) -> None:
    program, sites = parts(mobile(tmp_path))
    student = Student(program, sites)
    x = noise(8, 64)
    student.initialize([x])
    tap = ("r1", "c2", "f", "y")
    _, values = ProgramModule(program, taps=tap, outputs=())(x)
    means = measure_means(program, ["r1", "f"], x.split(16))
    torch.testing.assert_close(means["r1"], values["r1"].double().mean((0, 2, 3)))
    for op in student.layers():
        if op.spec.node not in {"conv2", "fc"}:
            continue
        wrong = output_shift(op, means[op.input_name].float())
        steps = op.scales().reshape(-1, *[1] * (op.weight.dim() - 1))
        rounded = torch.round(op.weight / steps).clamp(op.spec.grid.lo, op.spec.grid.hi) * steps
        read = values[op.input_name]
        layer = torch.nn.functional.conv2d if op.weight.dim() == 4 else torch.nn.functional.linear
        off = layer(read, rounded) - layer(read, op.weight)  # no padding: the mean is linear in x
        axes = [0, 2, 3][: off.dim() - 1] if off.dim() == 4 else [0]
        torch.testing.assert_close(wrong, off.mean(axes), rtol=1e-4, atol=1e-4)  # float32 sums
        before = op.bias.detach().clone() if op.bias is not None else torch.zeros(())
        assert float(wrong.abs().max()) > 1e-3
        correct_bias(student, {op.input_name: means[op.input_name]})
        assert op.bias is not None
        torch.testing.assert_close(op.bias.detach(), before - wrong)


def test_ranges_reach_six_deviations_and_the_pixels_ends(tmp_path: Path) -> None:
    model = mobile(tmp_path, ceiling=1e6)
    program, sites = parts(model)
    inputs = InputFormat(PRESETS["cifar10"], model.input_shape)
    known = propagate_moments(program, model.statistics, inputs)
    beta, gamma = model.statistics["n0"].mean, model.statistics["n0"].variance ** 0.5
    high = float(known["r0"].high.max())
    assert high == pytest.approx(float((beta + 6 * gamma).max()), rel=1e-6)  # float32 statistics
    student = Student(program, sites)
    student.initialize([noise(8)])
    assert set_activation_ranges(student, known) >= 2
    steps = {q.spec.tensor: float(q.scale().detach()) for q in student.quantizers()}
    grids = {q.spec.tensor: q.spec.grid for q in student.quantizers()}
    assert steps["r0"] == pytest.approx(high / grids["r0"].hi, rel=1e-6)
    low, top = PRESETS["cifar10"].range(2)
    span = grids["x"].zero_point
    assert steps["x"] == pytest.approx(max(top / (255 - span), -low / span), rel=0.05)
