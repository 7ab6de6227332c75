"""Products in bfloat16: where they are taken, how far they are off, what losses make of them."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
import torch

from dfqonnx.convert import reduced_precision
from dfqonnx.convert.importer import program_from_ir
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.reduced_precision import Bfloat16Module, reduce_precision
from dfqonnx.synthesis.bn_statistics import moments

NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
network (float[N, 2, 4, 4] x) => (float[N, 3] y)
<float[2, 2, 1, 1] w = {{1.0, 2.0, -1.0, 0.5}}, float[2] b = {{{b}, {b}}},
 float[3, 2] v = {{1.0, 0.0, 0.0, 1.0, 1.0, 1.0}}, int64[2] flat = {{0, -1}}, float[1] a = {{{b}}}>
{{
    [conv] c = Conv (x, w, b)
    [back] s = Sub (c, a)
    [pool] p = GlobalAveragePool (s)
    [reshape] f = Reshape (p, flat)
    {last}
}}
"""
GEMM = "[gemm] y = Gemm <transB = 1> (f, v)"


@pytest.fixture(autouse=True)
def _has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every machine take bfloat16: without instructions for it, it is only slow."""
    monkeypatch.setattr(reduced_precision, "multiplies_bfloat16", lambda _: True)


def network(*, offset: float = 0.25, last: str = GEMM, taps: tuple[str, ...] = ()) -> ProgramModule:
    text = NETWORK.format(b=offset, last=last)
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    return ProgramModule(program_from_ir(model), taps=taps)


def images() -> torch.Tensor:
    return torch.rand(8, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def test_products_lose_digits_and_logits_are_float32() -> None:
    net = network(taps=("c",))
    reduced = reduce_precision(net, images())
    assert isinstance(reduced, Bfloat16Module)
    (exact, taps), (near, reduced_taps) = net(images()), reduced(images())
    assert near.dtype == torch.float32
    assert reduced_taps["c"].dtype == torch.bfloat16 != taps["c"].dtype
    # 8 bits of mantissa: half a unit in the last place is 2^-9 of a number; three roundings follow
    assert not torch.equal(near, exact)
    assert float((near - exact).norm() / exact.norm()) < 3 * 2**-8


def test_a_gradient_reaches_the_images_in_float32() -> None:
    x = images().requires_grad_(True)
    (gradient,) = torch.autograd.grad(Bfloat16Module(network())(x)[0].square().sum(), x)
    y = images().requires_grad_(True)
    (exact,) = torch.autograd.grad(network()(y)[0].square().sum(), y)
    assert gradient.dtype == torch.float32
    assert float((gradient - exact).norm() / exact.norm()) < 0.02


def test_a_network_whose_sums_cancel_stays_in_float32() -> None:
    # 3000 has steps of 16 in bfloat16, and what is left of it after the subtraction is around 1
    net = network(offset=3000.0)
    assert reduce_precision(net, images()) is net


def test_without_instructions_for_it_a_network_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reduced_precision, "multiplies_bfloat16", lambda _: False)
    net = network()
    assert reduce_precision(net, images()) is net


def test_an_operator_that_does_not_take_both_types_keeps_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = network()

    def refuse(self: Bfloat16Module, *inputs: torch.Tensor) -> None:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")

    monkeypatch.setattr(Bfloat16Module, "forward", refuse)
    assert reduce_precision(net, images()) is net


def test_statistics_of_bfloat16_are_computed_in_float32() -> None:
    value = 100.0 + torch.randn(64, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    value = value.to(torch.bfloat16).requires_grad_(True)
    mean, variance = moments(value)
    exact = value.detach().double()
    assert mean.dtype == variance.dtype == torch.float32
    # sums of 1,600 numbers in float32, whose own rounding is 2^-24
    torch.testing.assert_close(mean.double(), exact.mean((0, 2, 3)), rtol=1e-5, atol=0)
    known = exact.var((0, 2, 3), correction=0)
    torch.testing.assert_close(variance.double(), known, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(mean.sum() + variance.sum(), value)
    assert gradient.dtype == torch.bfloat16
    # d mean / d y = 1 / n and d variance / d y = 2 (y - m) / n, rounded to 8 bits
    expected = (1 + 2 * (exact - exact.mean((0, 2, 3), keepdim=True))) / (exact.numel() / 3)
    torch.testing.assert_close(gradient.double(), expected, rtol=2**-7, atol=2**-16)
