"""Sensitivities: the second-order estimate against what a linear network makes exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfqonnx.convert.program import Program
from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.progress import SilentProgress
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.core.sensitivity import Sensitivity
from dfqonnx.fakequant.student import Student
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.mixed_precision.measure_sensitivity import measure_sensitivity
from dfqonnx.mixed_precision.output_loss import draw_directions, measure_loss, run_outputs
from dfqonnx.mixed_precision.separate_quantizers import round_weight, rounding, turn_off
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU

Opened = tuple[NormalizedModel, Program]
RAW = Preprocessing(name="zero-one", scale=255.0, mean=(0.0,), std=(1.0,))


def place(model: NormalizedModel, activations: int) -> QuantizationPlan:
    quant = QuantizationConfig(BitWidths(8, activations))
    return place_quantizers(model, quant, ONNXRUNTIME_CPU, input_signed=False)


def measure(opened: Opened, weight_bits: tuple[int, ...] = (2, 4, 8)) -> Sensitivity:
    model, program = opened
    return measure_sensitivity(
        program,
        [place(model, 8), place(model, 4)],
        weight_bits,
        inputs=InputFormat(RAW, model.input_shape),
        progress=SilentProgress(),
        seconds=0.5,
    )


def test_where_a_network_is_linear_the_estimate_is_the_measured_loss(linear: Opened) -> None:
    found = measure(linear)
    weights = [cost for cost in found.costs if cost.kind == "weight"]
    assert len(weights) == 6
    for cost in found.costs:
        assert cost.estimated == pytest.approx(cost.loss, rel=1e-3, abs=1e-9), cost


def test_every_quantizer_has_a_cost_and_fewer_bits_cost_more(residual: Opened) -> None:
    found, (model, _) = measure(residual), residual
    wide, narrow = place(model, 8), place(model, 4)
    weights, activations = found.of("weight"), found.of("activation")
    assert {name for name, _ in weights} == {w.node for w in wide.weights}
    keys = {(q.name, q.grid.bits) for plan in (wide, narrow) for q in plan.activations}
    assert activations.keys() == keys
    for name in {name for name, _ in weights}:
        assert weights[name, 2].loss > weights[name, 4].loss > weights[name, 8].loss
    assert found.unit == "KL divergence, nats"
    assert found.certainty is not None
    assert found.widths("weight") == [2, 4, 8]


def test_measured_and_estimated_losses_rank_alike(residual: Opened) -> None:
    correlation = measure(residual).rank_correlation
    assert correlation is not None
    assert correlation > 0.9


def test_a_loss_is_that_of_a_student_with_one_rounded_weight(residual: Opened) -> None:
    model, program = residual
    student = Student(program, place(model, 8)).eval()
    turn_off(student)
    layer, x = student.layers()[1], torch.rand(4, *model.input_shape)
    with torch.no_grad():
        before = run_outputs(student, x)
        with rounding(layer, round_weight(layer, 2, ONNXRUNTIME_CPU), None):
            after = run_outputs(student, x)
        again = run_outputs(student, x)
    assert torch.equal(before[0], again[0])
    p, q = torch.softmax(before[0].double(), 1), torch.softmax(after[0].double(), 1)
    expected = float((p * (p / q).log()).sum(1).mean())
    # a sum of logarithms near 1e-2 in double precision, over a result near 1e-5
    assert measure_loss(after, before) == pytest.approx(expected, rel=1e-9)


def test_directions_have_the_curvature_of_the_loss_as_covariance() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    rows = logits.expand(40_000, -1)
    v = draw_directions((rows,), (1.0,), len(rows), generator)[0].numpy()
    p = np.asarray(torch.softmax(logits[0], 0))
    expected = 0.5 * (np.diag(p) - np.outer(p, p))
    # four standard errors of a mean of 40,000 products below 1/2
    assert np.abs(v.T @ v / len(v) - expected).max() < 4 * 0.5 / 200
