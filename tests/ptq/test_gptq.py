"""Layer-wise reconstruction against brute force, least squares and the operators themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.ops.conv import conv
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization import INT8
from dfqonnx.core.quantization_plan import QuantizationPlan, WeightQuantizer
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.gptq import SampledPositions, gptq, is_matrix_product, solve_layer

Tiny = tuple[Program, QuantizationPlan]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def site(op: str, axis: int = 0) -> WeightQuantizer:
    grid = INT8.grid(4)
    return WeightQuantizer(node="n", op=op, weight="w", bias="b", grid=grid, axis=axis, input="x")


@pytest.mark.parametrize(
    ("groups", "attributes"),
    [
        (1, {}),
        (1, {"pads": (1, 1, 1, 1)}),
        (1, {"pads": (0, 1, 2, 0), "strides": (2, 1)}),
        (1, {"dilations": (2, 1), "auto_pad": "SAME_UPPER"}),
        (2, {"pads": (1, 1, 1, 1)}),
        (6, {"strides": (2, 2)}),
    ],
)
def test_a_conv_is_its_matrix_product_at_every_position(
    groups: int, attributes: dict[str, object]
) -> None:
    x = torch.randn(3, 6, 9, 8, generator=seeded())
    w = torch.randn(12, 6 // groups, 3, 3, generator=seeded(1))
    b = torch.randn(12, generator=seeded(2))
    y = conv(x, w, b, group=groups, **attributes)  # type: ignore[arg-type]
    positions = SampledPositions(
        site("Conv"), {"group": groups, **attributes}, y, count=50, generator=seeded(3)
    )
    patches = positions.inputs(x, w)  # (G, M, P)
    product = w.reshape(groups, 12 // groups, -1) @ patches + b.reshape(groups, -1, 1)
    # float32 sums of 54 terms in another order
    torch.testing.assert_close(product, positions.outputs(y), rtol=1e-4, atol=1e-4)


def test_a_gemm_is_its_matrix_product() -> None:
    x, w = torch.randn(7, 5, generator=seeded()), torch.randn(4, 5, generator=seeded(1))
    y = functional.linear(x, w)
    positions = SampledPositions(site("Gemm"), {}, y, count=100, generator=seeded())
    # float32 sums of 5 terms in another order
    torch.testing.assert_close(w[None] @ positions.inputs(x, w), positions.outputs(y))


def test_products_of_another_kind_are_recognized() -> None:
    w = torch.zeros(4, 5)
    assert is_matrix_product(site("Gemm"), {"transB": 1}, w)
    assert is_matrix_product(site("MatMul", 1), {}, w)
    assert is_matrix_product(site("Conv"), {}, torch.zeros(1, 1, 3, 3))
    assert not is_matrix_product(site("Gemm"), {"transB": 1, "transA": 1}, w)
    assert not is_matrix_product(site("Gemm"), {"transB": 1, "alpha": 2.0}, w)
    assert not is_matrix_product(site("MatMul", 0), {}, w)
    assert not is_matrix_product(site("MatMul", 1), {}, torch.zeros(2, 4, 5))
    assert not is_matrix_product(site("Conv"), {}, torch.zeros(1, 1, 3))


def output_error(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor) -> float:
    return float((weight @ x + bias[..., None] - y).square().mean())


def test_rounding_comes_close_to_the_best_of_all_codes() -> None:
    x = torch.randn(1, 4, 200, generator=seeded())
    x = x + 2 * x.roll(1, 1)  # correlated inputs
    w = torch.randn(1, 1, 4, generator=seeded(1))
    y = w @ x + 0.7
    found = solve_layer(w, x, y, (-4, 3), damping=1e-6)
    mine, steps = output_error(found.weight(), found.bias, x, y), found.scales
    every = torch.tensor(list(itertools.product(range(-4, 4), repeat=4))).float()  # (4096, 4)
    outputs = (every * steps[0]) @ x[0]  # (4096, P)
    off = outputs - outputs.mean(1, keepdim=True) - (y[0] - y[0].mean())
    best = float(off.square().mean(1).min())
    plain = (w / steps).round().clamp(-4, 3) * steps
    nearest = output_error(plain, (y - plain @ x).mean(2), x, y)
    assert mine <= nearest * (1 + 1e-6)  # the same codes, if so, in float32 sums of another order
    assert mine <= 2.0 * best  # greedy against exhaustive, at the same steps


def test_the_bias_makes_the_mean_output_exact() -> None:
    x = torch.rand(2, 9, 500, generator=seeded())
    w = torch.randn(2, 3, 9, generator=seeded(1))
    y = w @ x + torch.randn(2, 3, 1, generator=seeded(2))
    found = solve_layer(w, x, y, (-2, 1), damping=0.1)
    mean = (found.weight() @ x + found.bias[..., None]).mean(2)
    torch.testing.assert_close(mean, y.mean(2), rtol=1e-4, atol=1e-4)  # float32 sums of 500 terms


def test_the_refit_makes_up_for_inputs_that_were_distorted() -> None:
    x = torch.rand(1, 6, 2000, generator=seeded())
    w = torch.randn(1, 4, 6, generator=seeded(1))
    y = w @ x
    distorted = 0.5 * x  # as a clipping quantizer might
    found = solve_layer(w, distorted, y, (-128, 127), damping=1e-6)
    # eight bits: the weights double, and little error is left
    assert output_error(found.weight(), found.bias, distorted, y) < 1e-3 * float(y.var())


@pytest.mark.parametrize(("positions", "refit"), [(47, False), (48, True)])
def test_weights_are_refitted_to_eight_positions_an_input_and_only_rounded_below(
    positions: int, refit: bool
) -> None:
    w = torch.randn(1, 4, 6, generator=seeded())
    x = torch.randn(1, 6, positions, generator=seeded(1))
    y = (w + 0.2 * torch.randn(1, 4, 6, generator=seeded(2))) @ x  # what other weights would give
    found = solve_layer(w, x, y, (-128, 127), damping=1e-6)
    assert torch.equal(found.refit, w) is not refit
    # rounding to 8 bits moves a weight by half a step, 1.5 % of a deviation; the refit by a fifth
    assert bool((found.weight() - w).abs().max() > 0.1) is refit


def test_dead_inputs_and_constant_outputs_give_finite_numbers() -> None:
    x, w = torch.zeros(1, 5, 64), torch.randn(1, 3, 5, generator=seeded())
    goal = torch.ones(1, 3, 64)
    found = solve_layer(w, x, goal, (-8, 7), damping=0.1)
    for part in (found.codes, found.scales, found.bias, found.latent()):
        assert torch.isfinite(part).all()
    dead = solve_layer(torch.zeros(1, 3, 5), x, goal, (-8, 7), damping=0.1)
    assert (dead.scales > 0).all()
    assert torch.equal(dead.codes, torch.zeros_like(dead.codes))
    torch.testing.assert_close(dead.bias, torch.ones(1, 3))


def test_latent_weights_round_to_the_codes() -> None:
    x, w = torch.rand(1, 8, 200, generator=seeded()), torch.randn(1, 4, 8, generator=seeded(1))
    found = solve_layer(w, x, w @ x, (-4, 3), damping=0.1)
    latent = found.latent()
    assert torch.equal((latent / found.scales).round().clamp(-4, 3), found.codes)
    assert (latent - found.refit).norm() < (found.weight() - found.refit).norm()


def test_a_whole_student_comes_closer_to_its_teacher(tiny: Tiny, images: Tensor) -> None:
    program, _ = tiny
    student = Student(*tiny)
    student.initialize([images])
    with torch.no_grad():
        goal = ProgramModule(program)(images)[0]
        before = float((student(images)[0] - goal).square().mean())
        gptq(student, program, images, generator=seeded(), damping=0.1)
        after = float((student(images)[0] - goal).square().mean())
    assert after < 0.6 * before


def test_reconstruction_leaves_the_teacher_and_the_activation_steps_alone(
    tiny: Tiny, images: Tensor
) -> None:
    program, _ = tiny
    student = Student(*tiny)
    student.initialize([images])
    tensors = {name: tensor.clone() for name, tensor in program.tensors.items()}
    before = student.qparams().activations
    gptq(student, program, images, generator=seeded(), damping=0.1)
    assert student.qparams().activations == before
    assert all(torch.equal(tensors[name], t) for name, t in program.tensors.items())


def test_the_same_seed_gives_the_same_codes(tiny: Tiny, images: Tensor) -> None:
    found = []
    for _ in range(2):
        student = Student(*tiny)
        student.initialize([images])
        gptq(student, tiny[0], images, generator=seeded(4), damping=0.1)
        found.append(student.qparams().weights)
    for node, w in found[0].items():
        assert np.array_equal(w.codes, found[1][node].codes)
        assert np.array_equal(w.bias, found[1][node].bias)
