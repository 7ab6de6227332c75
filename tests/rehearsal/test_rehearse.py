"""A file is loaded, run and compared before anything slow; what the runtime gets wrong is cured.

The `careless` target knows none of what `targets/onnxruntime_cpu.py` knows of faulty kernels, so
that the rehearsal has to find it out by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfqonnx.errors import UnsupportedModel
from dfqonnx.rehearsal import loadable
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import TARGETS, TargetProfile, register
from tests.export.qnets import Net, residual
from tests.rehearsal.rehearsals import rehearse_model


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> TargetProfile:
    monkeypatch.setattr(TARGETS, "_known", dict(TARGETS._known))
    kernels = {op: replace(k, neutral=frozenset()) for op, k in ONNXRUNTIME_CPU.kernels.items()}
    profile = replace(ONNXRUNTIME_CPU, name="careless", kernels=kernels, separated=frozenset())
    return register(profile)


def between(op: str, *inputs: str, shape: tuple[int, ...] = (8, 8), **attributes: object) -> Net:
    """An operator between two Conv, so that quantizers stand on both sides of it."""
    net = Net(("N", 3, *shape))
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3), pads=[1] * 4), name="relu0")
    b = net.add(op, a, *inputs, name="middle", **attributes)
    net.head(net.add("Relu", net.conv(b, "c1", (8, 8, 1, 1)), name="relu1"), 8)
    return net


def softmax() -> Net:
    net = Net()
    a = net.conv("image", "stem", (16, 3, 3, 3), pads=[1] * 4)
    net.head(net.conv(net.add("Softmax", a, name="middle", axis=1), "c1", (8, 16, 1, 1)), 8)
    return net


def transposed() -> Net:
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3), pads=[1] * 4), name="relu0")
    weight = net.constant("w", net.rng.normal(size=(8, 8, 3, 3)).astype(np.float32))
    steps = {"strides": [2, 2], "pads": [0, 0, 1, 1]}
    b = net.add("ConvTranspose", a, weight, name="middle", **steps)
    net.head(net.add("Relu", net.conv(b, "c1", (8, 8, 1, 1)), name="relu1"), 8)
    return net


@pytest.mark.parametrize("make", [softmax, transposed])
def test_a_kernel_that_computes_other_codes_is_found_named_and_kept_apart(
    make: Callable[[], Net], careless: TargetProfile, tmp_path: Path
) -> None:
    found = rehearse_model(make().proto(opset=13), tmp_path, target=careless)
    assert found.plan.isolated == ("middle",)
    assert len(found.warnings) == 1
    assert "middle runs in float: the runtime's kernel computes" in found.warnings[0]
    assert found.parity.on_vs_off.faulty == ()


@pytest.mark.parametrize("make", [softmax, transposed])
def test_the_target_knows_it_before_the_rehearsal(make: Callable[[], Net], tmp_path: Path) -> None:
    found = rehearse_model(make().proto(opset=13), tmp_path)
    assert found.plan.isolated == ("middle",)
    assert found.warnings == []
    assert found.parity.on_vs_off.faulty == ()
    assert found.sqnr > 30  # eight bits, min-max ranges


def test_a_file_that_the_runtime_cannot_load_is_cured_by_name(
    careless: TargetProfile, tmp_path: Path
) -> None:
    steps = {"kernel_shape": [2, 2], "dilations": [2, 2]}
    net = between("AveragePool", **steps)
    found = rehearse_model(net.proto(opset=19), tmp_path, target=careless)
    assert "middle" in found.plan.isolated
    assert "AveragePool middle stays in float" in found.warnings[0]
    assert "QLinearAveragePool" in found.warnings[0]  # the runtime's own words


def test_a_failure_that_names_no_node_is_found_by_halving(
    careless: TargetProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadable, "_find_named", lambda stage, message: [])
    net = between("AveragePool", kernel_shape=[2, 2], dilations=[2, 2])
    found = rehearse_model(net.proto(opset=19), tmp_path, target=careless)
    assert "middle" in found.plan.isolated


def test_what_nothing_cures_is_refused_with_the_runtimes_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(stage: loadable.Stage, plan: object) -> str:
        return "ONNX Runtime cannot load it: no kernel for 'c1'"

    monkeypatch.setattr(loadable.Stage, "fails", fails)
    with pytest.raises(UnsupportedModel, match="no kernel for 'c1'") as caught:
        rehearse_model(residual().proto(), tmp_path)
    assert [(o.node, o.op) for o in caught.value.offenses] == [("c1", "Conv")]


def test_a_faultless_model_is_left_as_placed_and_nothing_is_said(tmp_path: Path) -> None:
    found = rehearse_model(residual().proto(), tmp_path)
    assert found.plan.isolated == ()
    assert found.plan.floats == ()
    assert found.warnings == []


def test_a_gate_of_one_number_per_channel_is_no_fault(tmp_path: Path) -> None:
    """A product with one number makes 256 values: one of them on a border is many codes."""
    net = Net()
    a = net.add("Relu", net.conv("image", "stem", (8, 3, 3, 3), pads=[1] * 4), name="relu0")
    gate = net.add("GlobalAveragePool", a, name="squeeze")
    gate = net.add("Sigmoid", net.conv(gate, "excite", (8, 8, 1, 1)), name="gate")
    net.head(net.conv(net.add("Mul", a, gate, name="scaled"), "c1", (8, 8, 1, 1)), 8)
    found = rehearse_model(net.proto(), tmp_path)
    assert found.plan.isolated == ()
    assert found.parity.on_vs_off.faulty == ()


def test_an_input_too_large_to_run_several_times_is_not_tried_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = softmax().proto(opset=13)
    assert not any("beforehand" in said for said in rehearse_model(proto, tmp_path).warnings)
    monkeypatch.setattr("dfqonnx.rehearsal.rehearse._LARGEST_INPUT", 64)
    done = rehearse_model(proto, tmp_path)
    assert [said for said in done.warnings if "not tried beforehand" in said]
