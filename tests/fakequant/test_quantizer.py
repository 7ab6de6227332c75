"""Fake quantizers against numpy, ONNX Runtime, closed-form gradients and PyTorch's own kernels."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dfqonnx.core.quantization import UINT8, IntegerRange, dequantize, quantize
from dfqonnx.core.quantization_plan import ActivationParameters, ActivationQuantizer
from dfqonnx.fakequant.observed_values import WeightedValues
from dfqonnx.fakequant.quantizer import (
    FakeQuantizer,
    ScaleGradient,
    dot,
    per_channel,
    per_tensor,
)

GRIDS = [
    UINT8.grid(8, negative=False),
    UINT8.grid(8, negative=True),
    UINT8.grid(4, negative=False),
    UINT8.grid(3, negative=True),
    UINT8.grid(2, negative=False),
]


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantizer(grid: IntegerRange, step: float, ceiling: float | None = None) -> FakeQuantizer:
    made = FakeQuantizer(ActivationQuantizer(name="v", tensor="v", grid=grid, clip_max=ceiling))
    made.set_scale(step)
    return made


def run_qdq(x: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int | None) -> np.ndarray:
    """QuantizeLinear and DequantizeLinear as ONNX Runtime does them, nothing optimized."""
    more = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **more),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **more),
    ]
    graph = helper.make_graph(
        nodes, "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"x": x})[0])


def asymmetric(bits: int) -> FakeQuantizer:
    spec = ActivationQuantizer(name="v", tensor="v", grid=UINT8.grid(bits), asymmetric=True)
    return FakeQuantizer(spec)


def test_a_calibrated_zero_point_is_that_of_onnx_runtime_bit_for_bit() -> None:
    q = asymmetric(8)
    x = torch.nn.functional.hardswish(4 * values(5000))
    q.calibrate(WeightedValues(x, torch.ones_like(x)))
    params = q.params()
    assert (params.lo, params.hi) == (0, 255)
    assert 0 < params.zero_point < 20  # -0.375 to about 12
    found = run_qdq(x.numpy(), np.float32(params.scale), np.uint8(params.zero_point), axis=None)
    np.testing.assert_array_equal(q(x).detach().numpy(), found)
    np.testing.assert_array_equal(
        (q.codes(x).numpy().astype("f4") - params.zero_point) * np.float32(params.scale), found
    )


def test_a_given_range_spans_the_codes_where_the_zero_point_is_open() -> None:
    q = asymmetric(4)
    q.set_range(-1.0, 4.0)
    params = q.params()
    assert params.scale == pytest.approx(5 / 15, rel=1e-6)  # through a float32 logarithm
    assert params.zero_point == 3
    fixed = quantizer(UINT8.grid(4), 1.0)
    fixed.set_range(-1.0, 4.0)
    assert fixed.params().zero_point == 8
    assert fixed.params().scale == pytest.approx(4 / 7, rel=1e-6)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_an_activation_equals_numerics_bit_for_bit(grid: IntegerRange) -> None:
    q, x = quantizer(grid, 0.37), values(2, 3, 8, 8)
    step = q.scale().detach()
    expected = dequantize(quantize(x, step, grid), step, grid)
    assert torch.equal(q(x), expected)
    assert torch.equal((q.codes(x).float() - grid.zero_point) * step, expected)
    assert q.params().scale == float(np.float32(step))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_an_activation_equals_onnx_runtime_bit_for_bit(signed: bool, seed: int) -> None:
    q = quantizer(UINT8.grid(8, negative=signed), 0.01 * (seed + 1) ** 0.5)
    x = values(4, 3, 32, 32, seed=seed)
    p = q.params()
    expected = run_qdq(x.numpy(), np.float32(p.scale), np.uint8(p.zero_point), None)
    assert np.array_equal(q(x).detach().numpy(), expected)


def test_ties_on_a_finer_grid_round_half_to_even_as_in_onnx_runtime() -> None:
    q = quantizer(UINT8.grid(8, negative=False), 0.1)
    x = (torch.arange(512) / 2) * q.scale().detach()  # every other value is a tie
    expected = run_qdq(x.numpy(), np.float32(q.params().scale), np.uint8(0), None)
    assert np.array_equal(q(x).detach().numpy(), expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_weight_equals_onnx_runtime_per_channel_bit_for_bit(axis: int) -> None:
    w = values(6, 5, 3, 3)
    steps = values(w.shape[axis], seed=2).abs() * 0.02 + 0.001
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    mine = per_channel(w, steps.view(shape), ScaleGradient(-128, 127))
    expected = run_qdq(w.numpy(), steps.numpy(), np.zeros(len(steps), np.int8), axis)
    assert np.array_equal(mine.numpy(), expected)


def closed_form(
    x: np.ndarray, s: float, qn: int, qp: int, d: np.ndarray
) -> tuple[np.ndarray, float]:
    """The LSQ gradients, one value at a time."""
    dx, ds = np.zeros_like(x), 0.0
    for i, v in np.ndenumerate(x):
        code = np.rint(v / s)
        if code < qn:
            ds += d[i] * qn
        elif code > qp:
            ds += d[i] * qp
        else:
            dx[i] = d[i]
            ds += d[i] * (code - v / s)
    return dx, ds


@pytest.mark.parametrize(("qn", "qp"), [(0, 15), (-8, 7), (-2, 1), (0, 255)])
def test_the_gradients_equal_the_closed_form(qn: int, qp: int) -> None:
    x = values(2, 3, 4, 5).requires_grad_()
    s = torch.tensor(2.0 / qp, requires_grad=True)
    d = values(2, 3, 4, 5, seed=1)
    per_tensor(x, s, ScaleGradient(qn, qp, 0.25)).backward(d)
    dx, ds = closed_form(x.detach().double().numpy(), float(s.detach()), qn, qp, d.double().numpy())
    assert x.grad is not None
    assert s.grad is not None
    assert np.array_equal(x.grad.numpy(), dx.astype(np.float32))
    # float32 sums of 120 terms as large as |x| qp against a float64 loop
    assert float(s.grad) == pytest.approx(0.25 * ds, abs=1e-5 * qp)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_gradients_equal_those_of_the_kernel_in_torch(grid: IntegerRange) -> None:
    x, d = values(3, 4, 9, 7), values(3, 4, 9, 7, seed=1)
    grads = []
    for own in (True, False):
        v = x.clone().requires_grad_()
        s = torch.tensor([0.21], requires_grad=True)
        if own:
            rule = ScaleGradient(grid.lo - grid.zero_point, grid.hi - grid.zero_point, 0.1)
            out = per_tensor(v, s, rule)
        else:
            zero = torch.tensor([float(grid.zero_point)])
            out = torch._fake_quantize_learnable_per_tensor_affine(
                v, s, zero, grid.lo, grid.hi, 0.1
            )
        out.backward(d)
        grads.append((v.grad, s.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    # both sum 756 float32 terms, in another order
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_per_channel_gradients_equal_those_of_the_kernel_in_torch(axis: int) -> None:
    x, d = values(4, 6, 3, 3), values(4, 6, 3, 3, seed=1)
    channels = x.shape[axis]
    shape = [1, 1, 1, 1]
    shape[axis] = channels
    steps = values(channels, seed=3).abs() * 0.1 + 0.05
    v, s = x.clone().requires_grad_(), steps.clone().requires_grad_()
    per_channel(v, s.view(shape), ScaleGradient(-8, 7, 0.1)).backward(d)
    v2, s2 = x.clone().requires_grad_(), steps.clone().requires_grad_()
    torch._fake_quantize_learnable_per_channel_affine(
        v2, s2, torch.zeros(channels), axis, -8, 7, 0.1
    ).backward(d)
    assert torch.equal(v.grad, v2.grad)
    # sums of tens of float32 terms, in another order
    torch.testing.assert_close(s.grad, s2.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["channels-last", "strided", "expanded gradient"])
def test_memory_order_changes_no_gradient(layout: str) -> None:
    wide = values(2, 4, 6, 12)
    x = wide[:, :, :, ::2] if layout == "strided" else wide[:, :, :, :6].contiguous()
    if layout == "channels-last":
        x = x.contiguous(memory_format=torch.channels_last)
    d = torch.ones(()).expand(x.shape) if "gradient" in layout else values(2, 4, 6, 6, seed=1)
    results = []
    for v in (x.detach().requires_grad_(), x.detach().contiguous().requires_grad_()):
        s = torch.tensor(0.3, requires_grad=True)
        per_tensor(v, s, ScaleGradient(-8, 7)).backward(d)
        results.append((v.grad, s.grad))
    assert torch.equal(results[0][0], results[1][0])
    # the same 288 float32 terms in another order
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)


def test_inner_products_agree_whatever_the_memory_order() -> None:
    a, b = values(2, 3, 4, 5), values(2, 3, 4, 5, seed=1)
    last = torch.channels_last
    expected = float((a.double() * b.double()).sum())
    a_last, b_last = a.to(memory_format=last), b.to(memory_format=last)
    turned = (a.transpose(2, 3), b.transpose(2, 3))
    for x, y in [(a, b), (a_last, b_last), (a_last, b), turned]:
        # 120 float32 terms of size 1
        assert float(dot(x, y)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("step", "expected"), [(0.1, 15), (0.4, 15), (0.5, 12), (1.0, 6)])
def test_a_ceiling_bounds_the_codes(step: float, expected: int) -> None:
    grid = UINT8.grid(4, negative=False)
    q = quantizer(grid, step, ceiling=6.0)
    assert q.params().hi == expected
    assert int(q.codes(torch.tensor([100.0]))) == expected
    assert float(q(torch.tensor([100.0])).detach()) == pytest.approx(
        expected * step, rel=1e-6
    )  # exp(log)


def test_a_ceiling_counts_from_the_zero_point() -> None:
    site = ActivationQuantizer(name="v", tensor="v", grid=UINT8.grid(8), clip_max=1.0)
    assert site.grid.below(site.clip_max, 0.1) == IntegerRange(8, 0, 138, 128)


def test_a_rectifying_quantizer_is_a_relu_and_a_quantizer() -> None:
    x, d = values(4, 6, 5, 5), values(4, 6, 5, 5, seed=1)
    results = []
    for rectify in (True, False):
        v, s = x.clone().requires_grad_(), torch.tensor(0.2, requires_grad=True)
        out = per_tensor(v if rectify else v.relu(), s, ScaleGradient(0, 7, 0.5, rectify))
        out.backward(d)
        results.append((out.detach(), v.grad, s.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    # 600 float32 terms, those below 0 left out on one side
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-4, atol=1e-4)


def test_a_step_stays_positive_however_hard_it_is_pulled_down() -> None:
    q = quantizer(UINT8.grid(4, negative=False), 0.1)
    optimizer = torch.optim.SGD(q.parameters(), lr=10.0)
    for _ in range(3):
        q.scale().backward()
        optimizer.step()
    assert float(q.scale().detach()) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_same_values_and_gradients() -> None:
    x, d = values(4, 8, 16, 16), values(4, 8, 16, 16, seed=1)
    results = []
    for device in ("cpu", "cuda"):
        v = x.to(device).requires_grad_()
        s = torch.tensor(0.3, device=device, requires_grad=True)
        out = per_tensor(v, s, ScaleGradient(0, 15))
        out.backward(d.to(device))
        results.append((out.detach().cpu(), v.grad.cpu(), s.grad.cpu()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    # 8,192 float32 terms in another order
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-3, atol=1e-3)


def test_what_a_hard_swish_makes_zero_of_takes_no_codes() -> None:
    """Codes begin at -3: the product is off by less than with as many codes on either side."""
    x = torch.cat([values(4000) * 4, torch.tensor([-22.0, 13.0])])
    spec = ActivationQuantizer(name="v", tensor="v", grid=UINT8.grid(8), unit=3.0)
    errors = {}
    for open_zero in (False, True):
        made = FakeQuantizer(dataclasses.replace(spec, asymmetric=open_zero))
        made.calibrate(WeightedValues(x, torch.ones_like(x)))
        found, params = made(x), made.params()
        steps = 3.0 / params.scale
        assert steps == pytest.approx(round(steps), abs=1e-4)
        if open_zero:
            assert params.zero_point - params.lo == round(steps)
            assert float(found.detach().min()) == pytest.approx(-3.0, rel=1e-6)
        hardswish = torch.nn.functional.hardswish
        errors[open_zero] = float((hardswish(found) - hardswish(x)).square().mean().detach())
    # 256 codes over 16 or 17 instead of 26 or 27: the square of that
    assert errors[True] < 0.5 * errors[False]


def test_a_given_range_begins_at_minus_the_unit() -> None:
    spec = ActivationQuantizer(name="v", tensor="v", grid=UINT8.grid(8), unit=3.0, asymmetric=True)
    made = FakeQuantizer(spec)
    made.set_range(-20.0, 12.0)
    assert made.params() == ActivationParameters(pytest.approx(3.0 / 51), 51, 0, 255)
