"""Capturing activations: what is shown, in which order, and that nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.quantization_plan import QuantizationPlan
from dfqonnx.fakequant.capture import Inputs, Observer, ProgramValues, capture

Tiny = tuple[Program, QuantizationPlan]


def hooks(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks)


def test_a_module_is_seen_before_and_after_it_runs_and_only_in_the_block() -> None:
    layer, x = nn.Linear(2, 3), torch.randn(4, 2)
    seen: list[tuple[str, Tensor]] = []

    def before(module: nn.Linear, inputs: Inputs) -> None:
        seen.append(("before", inputs[0]))
        module.bias.data.fill_(7.0)  # what it changes, the module computes with

    def after(_: nn.Linear, inputs: Inputs, output: Tensor) -> None:
        seen.append(("after", output))

    with capture([layer], before=before, after=after):
        y = layer(x)
    layer(x)
    assert [(when, value is x or value is y) for when, value in seen] == [
        ("before", True), ("after", True),
    ]  # fmt: skip
    torch.testing.assert_close(y, x @ layer.weight.t() + 7.0)


def test_an_error_in_the_block_leaves_no_hook_behind() -> None:
    layers = [nn.Identity(), nn.Identity()]

    def fail() -> None:
        with capture(layers, before=lambda _, __: None, after=lambda _, __, ___: None):
            assert [hooks(layer) for layer in layers] == [2, 2]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [hooks(layer) for layer in layers] == [0, 0]


def test_values_of_a_program_are_read_by_name_and_observed_where_they_are_made(
    tiny: Tiny, images: Tensor
) -> None:
    program, _ = tiny
    values = ProgramValues(program, ["r1", "r1", "sum"], images.device)(images)
    assert values.keys() == {"r1", "sum"}
    seen: list[Tensor] = []
    net = ProgramModule(program, after={"r1": Observer(seen.append)}, channels_last=True)
    assert torch.equal(net(images)[0], ProgramModule(program, channels_last=True)(images)[0])
    (found,) = seen
    assert torch.equal(found, values["r1"])
