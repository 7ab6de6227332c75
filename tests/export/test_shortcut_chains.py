"""Slices and Pads of a parameter-free shortcut: one identity Conv, or what they were.

A target that rewrites nothing writes the same file with Slice and Pad in it. Both compute the same
codes, whatever the chain is: ONNX Runtime, nothing optimized, is the judge.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.export.export import export
from dfqonnx.export.writer import write
from dfqonnx.graph.load import load
from dfqonnx.graph.normalize import normalize
from dfqonnx.placement.place import place_quantizers
from dfqonnx.runtime.session import Session
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import TARGETS, register
from tests.export.qnets import Net
from tests.export.rough import rough_params

FAR = 2**62
Step = tuple[str, tuple[int, ...], dict[str, object]]


def slice_(starts: int, ends: int, step: int, axes: tuple[int, ...] = (2, 3)) -> Step:
    """A Slice of the given axes."""
    return "Slice", (starts, ends, step, *axes), {}


def pad(*amounts: int, fill: float | None = None, mode: str = "constant") -> Step:
    """A Pad of four axes: begins, then ends."""
    return "Pad", amounts, {"fill": fill, "mode": mode}


STRIDE, WIDEN = slice_(0, FAR, 2), pad(0, 4, 0, 0, 0, 4, 0, 0)
ONE_CONV: dict[str, list[Step]] = {
    "stride and channels": [STRIDE, WIDEN],
    "channels and stride": [WIDEN, STRIDE],
    "stride alone": [STRIDE],
    "channels in front": [pad(0, 3, 0, 0, 0, 0, 0, 0)],
    "channels behind": [pad(0, 0, 0, 0, 0, 5, 0, 0)],
    "more in front than behind": [STRIDE, pad(0, 1, 0, 0, 0, 6, 0, 0)],
    "two pads": [pad(0, 1, 0, 0, 0, 2, 0, 0), pad(0, 3, 0, 0, 0, 1, 0, 0)],
    "two strides": [slice_(0, FAR, 2), slice_(0, FAR, 3)],
    "one axis": [slice_(0, FAR, 2, (3,)), slice_(0, FAR, 3, (-2,))],
    "to the very end": [slice_(0, 12, 2)],
    "real zeros": [STRIDE, pad(0, 4, 0, 0, 0, 4, 0, 0, fill=0.0)],
}
OTHER: dict[str, list[Step]] = {
    "crops a channel": [STRIDE, pad(0, -1, 0, 0, 0, 0, 0, 0)],
    "crops as many as it adds": [pad(0, -2, 0, 0, 0, 2, 0, 0)],
    "crops behind": [pad(0, 2, 0, 0, 0, -1, 0, 0)],
    "pads the image": [pad(0, 2, 1, 0, 0, 2, 0, 0)],
    "pads behind the image": [pad(0, 2, 0, 0, 0, 2, 0, 1)],
    "repeats the edge": [pad(0, 1, 0, 0, 0, 1, 0, 0, mode="edge")],
    "reflects": [pad(0, 2, 0, 0, 0, 2, 0, 0, mode="reflect")],
    "wraps": [pad(0, 2, 0, 0, 0, 2, 0, 0, mode="wrap")],
    "begins at one": [slice_(1, FAR, 2)],
    "begins from behind": [slice_(-4, FAR, 2)],
    "ends early": [slice_(0, 11, 2)],
    "ends before the end": [slice_(0, -1, 2)],
    "takes every other channel": [slice_(0, FAR, 2, (1,))],
    "backwards": [slice_(FAR, -FAR, -1)],
}


def _net(steps: list[Step], *, tap: int | None = None, twice: bool = False) -> onnx.ModelProto:
    net = Net(("N", 3, 12, 12))
    a = net.conv("image", "stem", (8, 3, 3, 3), pads=[1] * 4)
    x = net.add("Relu", a, name="relu")
    names = []
    for index, (op, numbers, more) in enumerate(steps):
        if op == "Slice":
            start, end, step, *axes = numbers
            columns = [[start] * len(axes), [end] * len(axes), axes, [step] * len(axes)]
        else:
            columns = [list(numbers)]
        inputs = [net.constant(f"k{index}.{i}", np.array(c)) for i, c in enumerate(columns)]
        if more.get("fill") is not None:
            inputs.append(net.constant(f"fill{index}", np.float32(more["fill"])))
        mode = {"mode": more["mode"]} if "mode" in more else {}
        x = net.add(op, x, *inputs, name=f"step{index}", **mode)
        names.append(x)
    channels = 8
    for op, numbers, _ in steps:
        if op == "Pad":
            channels += numbers[1] + numbers[5]
        elif 1 in numbers[3:]:
            channels = -(-channels // numbers[2])
    if twice:  # a tensor in the middle of the chain has another reader
        other = net.conv(names[0], "other", (4, 8, 1, 1))
        pooled = net.add("GlobalAveragePool", other, name="pool2")
    y = net.conv(x, "last", (4, channels, 1, 1))
    y = net.add("GlobalAveragePool", y, name="pool")
    if twice:
        y = net.add("Add", y, pooled, name="both")
    flat = net.add("Flatten", y, name="flat")
    net.constant("fc.weight", net.rng.normal(size=(5, 4)).astype(np.float32))
    net.constant("fc.bias", np.zeros(5, np.float32))
    net.add("Gemm", flat, "fc.weight", "fc.bias", name="fc", transB=1)
    proto = net.proto(opset=19)
    if tap is not None:
        info = helper.make_tensor_value_info(names[tap], TensorProto.FLOAT, ("N", 8, 6, 6))
        proto.graph.output.append(info)
    return proto


def _both(
    proto: onnx.ModelProto, folder: Path, monkeypatch: pytest.MonkeyPatch, *, widest: int = 256
) -> onnx.ModelProto:
    """Export with and without the rewrite; every number is the same; return the rewritten file."""
    monkeypatch.setattr(TARGETS, "_known", {ONNXRUNTIME_CPU.name: ONNXRUNTIME_CPU})
    onnx.save(proto, folder / "net.onnx")
    model = normalize(load(folder / "net.onnx"))
    x = np.random.default_rng(5).normal(size=(3, *model.input_shape)).astype(np.float32)
    outputs = []
    for name, channels in (("plain", 0), ("one-conv", widest)):
        target = register(replace(ONNXRUNTIME_CPU, name=name, shortcut_channels=channels))
        quant = QuantizationConfig(BitWidths(4, 8))
        plan = place_quantizers(model, quant, target, input_signed=True)
        write(export(model, plan, rough_params(model, plan, x)), folder / f"{name}.onnx")
        file = onnx.load(folder / f"{name}.onnx")
        assert [o.name for o in file.graph.output] == [o.name for o in proto.graph.output]
        session = Session(folder / f"{name}.onnx", optimization="off")
        outputs.append(session.run_batched({model.input: x}))
    assert outputs[0].keys() == outputs[1].keys()
    for output, values in outputs[0].items():
        np.testing.assert_array_equal(outputs[1][output], values)
    return onnx.load(folder / "one-conv.onnx")


def _convs(proto: onnx.ModelProto) -> list[str]:
    return [n.name for n in proto.graph.node if n.op_type == "Conv" and n.name.startswith("step")]


@pytest.mark.parametrize("name", ONE_CONV)
def test_a_shortcut_that_strides_and_adds_channels_is_one_conv(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ONE_CONV[name]
    file = _both(_net(steps), tmp_path, monkeypatch)
    assert _convs(file) == [f"step{len(steps) - 1}"]
    assert not {"Slice", "Pad"} & {n.op_type for n in file.graph.node}


@pytest.mark.parametrize("name", OTHER)
def test_anything_else_keeps_its_slices_and_pads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _both(_net(OTHER[name]), tmp_path, monkeypatch)
    wanted = "step0" if OTHER[name][0] == STRIDE else None  # the stride in front may be one
    assert _convs(file) == ([wanted] if wanted else [])


def test_a_tensor_in_the_middle_that_is_an_output_or_read_elsewhere_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, proto in (
        ("output", _net([STRIDE, WIDEN], tap=0)),
        ("reader", _net([STRIDE, WIDEN], twice=True)),
    ):
        (tmp_path / name).mkdir()
        file = _both(proto, tmp_path / name, monkeypatch)
        onnx.checker.check_model(file, full_check=True)
        assert _convs(file) == ["step0", "step1"], "a Conv each"


@pytest.mark.parametrize(("widest", "count"), [(16, 1), (15, 0)])
def test_a_shortcut_may_be_as_wide_as_the_target_says(
    widest: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _both(_net([WIDEN]), tmp_path, monkeypatch, widest=widest)
    assert len(_convs(file)) == count
