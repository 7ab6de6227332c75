"""Layer noise: histograms that count every value, noise against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dfqonnx.analysis import layer_noise
from dfqonnx.analysis.layer_noise import CodeHistogram, SignalNoise, analyze_layer_noise
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.layer_analysis import Histogram
from dfqonnx.core.quantization import INT8
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.fakequant.student import Student

Tiny = tuple[Program, QuantizationPlan]


def count_codes(values: Tensor, bits: int) -> Histogram:
    histogram = CodeHistogram(INT8.grid(bits))
    histogram.add(values)
    return histogram.occupancy(1.0).histogram


def sqnr_db(wanted: Tensor, found: Tensor) -> float | None:
    sums = SignalNoise()
    sums.add(wanted, found)
    return sums.sqnr_db


def codes(found: Histogram, bits: int) -> list[int]:
    """Sum the bins that belong to each code of the grid."""
    per_code = int(64 / 2**bits)
    inside = found.counts[8:-8]
    return [sum(inside[k : k + per_code]) for k in range(0, len(inside), per_code)]


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_bins_never_straddle_the_edge_of_a_code(bits: int) -> None:
    lo, hi = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 2.0**bits / 6
    found = count_codes(values, bits)
    inside = values[(values >= lo - 0.5) & (values < hi + 0.5)]
    expected = torch.bincount((inside + 0.5).floor().long() - lo, minlength=hi - lo + 1)
    assert codes(found, bits) == expected.tolist()


def test_every_value_is_counted_once_also_those_far_away() -> None:
    values = torch.tensor([-100.0, -9.0, 0.0, 3.3, 8.0, 100.0, 200.0])
    found = count_codes(values, 4)
    assert (found.below, found.above) == (1, 2)
    assert sum(found.counts) == 4


def test_the_ratio_is_that_of_energies_and_unknown_without_noise_or_signal() -> None:
    goal = torch.tensor([[3.0, 10.0], [-3.0, 18.0]])
    noise = torch.tensor([[0.3, 0.4], [0.3, 0.4]])
    assert sqnr_db(goal, goal + noise) == pytest.approx(20.0)  # 2 * (9 + 16) over 2 * 0.25
    assert sqnr_db(goal, goal) is None
    assert sqnr_db(torch.ones(2, 2), goal) is None, "a constant is no signal"
    assert sqnr_db(goal, torch.full((2, 2), math.nan)) is None


def test_the_signal_is_what_varies_around_the_mean_of_each_channel() -> None:
    rng = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 3, 4, 5, generator=rng) + torch.tensor([0.0, 7.0, -90.0])[:, None, None]
    rows = torch.randn(6, 4, 5, generator=rng) + torch.arange(5.0)
    for goal, others in ((maps, (0, 2, 3)), (rows, (0, 1))):
        varying = goal.double().var(others, correction=0).mean() * goal.numel()
        sums = SignalNoise()
        for part in goal.split(2):
            sums.add(part, part + 0.1)
        assert sums.signal == pytest.approx(float(varying), rel=1e-6)
        assert sums.noise == pytest.approx(0.01 * goal.numel(), rel=1e-4)  # 0.1 in float32


def test_large_networks_are_analyzed_on_fewer_images(
    tiny: Tiny, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = Student(*tiny)
    student.initialize([images])
    assert analyze_layer_noise(student, tiny[0], images).images == len(images)
    monkeypatch.setattr(layer_noise, "WORK", 10.0)
    assert analyze_layer_noise(student, tiny[0], images).images == layer_noise.CHUNK


@pytest.fixture
def student(tiny: Tiny, images: Tensor) -> Student:
    made = Student(*tiny)
    made.initialize([images])
    return made


def test_weights_are_counted_as_they_are_exported(
    student: Student, tiny: Tiny, images: Tensor
) -> None:
    exported = student.qparams().weights
    for layer in analyze_layer_noise(student, tiny[0], images).layers:
        lo = layer.weight.lowest
        expected = np.bincount(exported[layer.node].codes.ravel() - lo, minlength=16)
        found = layer.weight.histogram
        ends = sum(found.counts[:8]) + found.below, sum(found.counts[-8:]) + found.above
        counted = codes(found, 4)
        counted[0] += ends[0]  # what lies outside is clipped to the ends
        counted[-1] += ends[1]
        assert counted == expected.tolist()
        assert sum(ends) == pytest.approx(layer.weight.clipped * expected.sum(), abs=0.5)


def test_the_last_layer_carries_the_noise_of_the_output(
    student: Student, tiny: Tiny, images: Tensor
) -> None:
    goal = ProgramModule(tiny[0])(images)[0]
    last = analyze_layer_noise(student, tiny[0], images).layers[-1]
    with torch.no_grad():
        expected = sqnr_db(goal, student(images)[0])
    # sums of float64 in another memory order
    assert last.in_network_sqnr_db == pytest.approx(expected, abs=1e-6)


def test_the_first_layer_has_gathered_no_noise_but_its_own(
    student: Student, tiny: Tiny, images: Tensor
) -> None:
    first = analyze_layer_noise(student, tiny[0], images).layers[0]
    assert first.isolated_sqnr_db == pytest.approx(first.in_network_sqnr_db, abs=1e-6)


def test_every_quantizer_is_there_and_an_isolated_layer_is_closer_to_the_teacher(
    student: Student, tiny: Tiny, images: Tensor
) -> None:
    found = analyze_layer_noise(student, tiny[0], images)
    assert [layer.node for layer in found.layers] == [s.node for s in tiny[1].weights]
    assert [a.quantizer for a in found.activations] == [s.name for s in tiny[1].activations]
    pairs = [(layer.isolated_sqnr_db, layer.in_network_sqnr_db) for layer in found.layers]
    assert all(own is not None and total is not None for own, total in pairs)
    assert np.mean([own for own, _ in pairs]) > np.mean([total for _, total in pairs])  # type: ignore[arg-type]


def test_the_analysis_changes_nothing(student: Student, tiny: Tiny, images: Tensor) -> None:
    with torch.no_grad():
        before = student(images)[0]
        analyze_layer_noise(student, tiny[0], images)
        assert torch.equal(student(images)[0], before)
    assert not any(module._forward_hooks for module in student.modules())
