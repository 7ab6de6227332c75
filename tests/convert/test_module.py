"""Net: where modules are hung in, what is returned, what is computed, what can be trained."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from dfqonnx.convert.importer import program_from_ir
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.errors import InternalError, UnsupportedModel

BLOCK = """
<ir_version: 8, opset_import: ["" : 17]>
block (float[N, 2, 4, 4] x) => (float[N, 3] y)
<float[2, 2, 1, 1] w = {1.0, 2.0, -1.0, 0.5}, float[2] b = {0.5, -0.25},
 float[3, 2] v = {1.0, 0.0, 0.0, 1.0, 1.0, 1.0}, int64[2] flat = {0, -1}>
{
    [conv] c = Conv (x, w, b)
    [relu] r = Relu (c)
    [add] s = Add (r, x)
    [pool] p = GlobalAveragePool (s)
    [reshape] f = Reshape (p, flat)
    [gemm] z = Gemm <transB = 1> (f, v)
    [softmax] y = Softmax (z)
}
"""


class Scale(nn.Module):
    """Multiplies, and counts how often it was called."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.factor


def program(text: str = BLOCK, logits: str | None = None) -> Program:
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    return program_from_ir(model, logits=logits)


def image(n: int = 2) -> Tensor:
    return torch.linspace(-1, 1, n * 32).view(n, 2, 4, 4)


def by_hand(x: Tensor) -> dict[str, Tensor]:
    """The block in plain torch."""
    w = torch.tensor([[1.0, 2.0], [-1.0, 0.5]])
    c = torch.einsum("oc,nchw->nohw", w, x) + torch.tensor([0.5, -0.25]).view(1, 2, 1, 1)
    s = c.clamp_min(0) + x
    f = s.mean((2, 3))
    z = f @ torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).t()
    return {"c": c, "s": s, "f": f, "z": z, "y": z.softmax(1)}


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-6)  # values near 1, sums of at most 16 terms


def test_without_taps_it_returns_the_logits_and_nothing() -> None:
    logits, taps = ProgramModule(program())(image())
    assert close(logits, by_hand(image())["y"])
    assert taps == {}


def test_taps_return_inner_values_under_their_names() -> None:
    _, taps = ProgramModule(program(), taps=("s", "c", "x"))(image())
    assert list(taps) == ["s", "c", "x"]
    assert close(taps["s"], by_hand(image())["s"])
    assert close(taps["c"], by_hand(image())["c"])
    assert taps["x"].equal(image())


def test_named_logits_leave_the_softmax_uncomputed() -> None:
    net = ProgramModule(program(logits="z"))
    assert close(net(image())[0], by_hand(image())["z"])
    assert "softmax" not in net.body.code


def test_named_outputs_come_as_a_tuple() -> None:
    (z, s), _ = ProgramModule(program(), outputs=("z", "s"))(image())
    assert close(z, by_hand(image())["z"])
    assert close(s, by_hand(image())["s"])


def test_a_replaced_node_is_called_with_its_inputs_that_are_not_constants() -> None:
    seen: list[tuple[Tensor, ...]] = []

    class Spy(nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return inputs[0]

    _, taps = ProgramModule(program(), replace={"conv": Spy(), "add": Spy()}, taps=("s",))(image())
    assert [len(inputs) for inputs in seen] == [1, 2]
    assert seen[1][1].equal(image())
    assert taps["s"].equal(image().clamp_min(0))


def test_after_is_seen_by_all_readers_and_taps() -> None:
    half = Scale(0.5)
    logits, taps = ProgramModule(program(logits="z"), after={"x": half}, taps=("x", "s"))(image())
    wanted = by_hand(image() * 0.5)
    assert half.calls == 1
    assert taps["x"].equal(image() * 0.5)
    assert close(taps["s"], wanted["s"])
    assert close(logits, wanted["z"])


def test_reading_is_seen_by_that_node_only() -> None:
    _, taps = ProgramModule(program(), reading={("conv", "x"): Scale(0.5)}, taps=("x", "c", "s"))(
        image()
    )
    assert taps["x"].equal(image())
    assert close(taps["c"], by_hand(image() * 0.5)["c"])
    assert close(taps["s"], by_hand(image() * 0.5)["c"].clamp_min(0) + image())


def test_a_module_that_several_nodes_read_through_is_called_once() -> None:
    shared = Scale(2.0)
    reading = {("conv", "x"): shared, ("add", "x"): shared}
    _, taps = ProgramModule(program(), reading=reading, taps=("s",))(image())
    assert shared.calls == 1
    assert close(taps["s"], by_hand(image() * 2)["s"])


def test_reading_comes_behind_after() -> None:
    net = ProgramModule(
        program(), after={"x": Scale(2.0)}, reading={("conv", "x"): Scale(0.25)}, taps=("c",)
    )
    assert close(net(image())[1]["c"], by_hand(image() * 0.5)["c"])


def test_a_replaced_node_also_reads_through_its_module() -> None:
    net = ProgramModule(
        program(), replace={"conv": nn.Identity()}, reading={("conv", "x"): Scale(3.0)}, taps=("c",)
    )
    assert close(net(image())[1]["c"], image() * 3)


def test_only_hung_in_modules_have_parameters_and_the_input_has_a_gradient() -> None:
    half = Scale(0.5)
    net = ProgramModule(program(logits="z"), after={"s": half})
    assert list(net.parameters()) == [half.factor]
    assert not any(tensor.requires_grad for tensor in net.buffers())
    x = image().requires_grad_()
    net(x)[0].sum().backward()
    assert x.grad is not None
    assert half.factor.grad is not None


def test_channels_last_changes_the_memory_order_and_not_the_values() -> None:
    shared = program(logits="z")
    net = ProgramModule(shared, channels_last=True)
    assert close(net(image())[0], by_hand(image())["z"])
    assert shared.tensors["w"].is_contiguous()


def test_a_network_moves_and_casts_with_its_constants() -> None:
    net = ProgramModule(program(logits="z")).to(torch.float64)
    assert net(image().double())[0].dtype is torch.float64


def test_computed_shapes_stay_on_the_host_and_follow_the_batch() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    flat (float[N, 2, 4, 4] x) => (float[N, M] y, int64[4] s)
    <int64 zero = {0}, int64[1] first = {0}, int64[1] rest = {-1}>
    {
        s = Shape (x)
        n = Gather (s, zero)
        u = Unsqueeze (n, first)
        t = Concat <axis = 0> (u, rest)
        y = Reshape (x, t)
    }
    """
    found = program(text)
    assert found.host == {"s", "n", "u", "t"}
    net = ProgramModule(found, outputs=("y", "s"))
    for n in (1, 3):
        (y, s), _ = net(image(n))
        assert y.equal(image(n).view(n, 32))
        assert s.tolist() == [n, 2, 4, 4]
    assert list(ProgramModule(found).buffers()) == []


def test_computed_shapes_need_nothing_from_the_device() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    half (float[N, 2, 4, 4] x) => (float[N, 2, 2, 4] y)
    <int64 two = {2}, int64[1] axis = {2}, int64[1] first = {0}>
    {
        s = Shape <start = 2, end = 3> (x)
        h = Div (s, two)
        y = Slice (x, first, h, axis)
    }
    """
    net = ProgramModule(program(text))
    assert net.to("meta")(image().to("meta"))[0].shape == (2, 2, 2, 4)


def test_a_shape_that_meets_data_is_moved_to_it() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    count (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
    {
        n = Size (x)
        f = Cast <to = 1> (n)
        y = Div (x, f)
    }
    """
    assert close(ProgramModule(program(text))(image())[0], image() / 64)


def test_constants_are_folded_and_shared_initializers_stay_shared() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    shared (float[N, 2] x) => (float[N, 2] y)
    <float[2, 2] w = {1.0, 2.0, 3.0, 4.0}>
    {
        t = Transpose (w)
        a = MatMul (x, t)
        b = MatMul (a, t)
        y = Relu (b)
    }
    """
    found = program(text)
    assert [step.op for step in found.steps] == ["MatMul", "MatMul", "Relu"]
    assert len(list(ProgramModule(found).buffers())) == 1


def test_every_node_that_cannot_be_translated_is_named() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
    odd (float[N, 2] x) => (float[N, 2] y)
    <float[2] one = {1.0, 1.0}>
    {
        [nms] a = NonMaxSuppression (x, x)
        [mine] b = com.example.Fancy (a)
        [bn] c, d, e = BatchNormalization <training_mode = 1> (b, one, one, one, one)
        y = Relu (c)
    }
    """
    with pytest.raises(UnsupportedModel) as caught:
        program(text)
    assert [offense.node for offense in caught.value.offenses] == ["nms", "mine", "bn"]
    message = str(caught.value)
    assert "3 nodes cannot be translated" in message
    assert "mine (com.example.Fancy): domain com.example is not supported" in message
    assert "bn (BatchNormalization): is in training mode; export the model in eval mode" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replace": {"nobody": nn.Identity()}}, "replace: no node 'nobody'"),
        ({"after": {"nothing": nn.Identity()}}, "after: no value 'nothing'"),
        ({"reading": {("conv", "r"): nn.Identity()}}, "node 'conv' does not read 'r'"),
        ({"taps": ("nothing",)}, "taps or outputs: no value 'nothing'"),
    ],
)
def test_unknown_names_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InternalError, match=message):
        ProgramModule(program(), **arguments)
