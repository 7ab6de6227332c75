"""A narrow first Conv is filled up with channels of zeros, and the file computes the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfqonnx.core.quantization import BitWidths
from dfqonnx.evaluation.parity import StudentOutputs, measure_parity
from dfqonnx.runtime.session import Session
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import TARGETS
from tests.export.qnets import Net, export_net
from tests.targets.made import NETS, Made


def mobile(
    *, stem: int = 8, activation: str = "Relu", kernel: int = 1, tap: str = "", layers: int = 1
) -> Net:
    """A narrow Conv, depthwise ones, a Conv of `kernel`, and a second reader of the value `tap`."""
    net = Net(seed=5)
    a = net.conv("image", "stem", (stem, 3, 3, 3), pads=[1] * 4)
    a = net.add(activation, a, name="act0")
    for index in range(layers):
        a = net.conv(a, f"dw{index}", (stem, 1, 3, 3), pads=[1] * 4, group=stem)
        a = net.add(activation, a, name=f"act{index + 1}")
    b = net.conv(a, "pw", (16, stem, kernel, kernel))
    b = net.add("Relu", b, name="last")
    if tap:
        pooled = net.add("GlobalAveragePool", tap, name="tapped")
        b = net.add("Concat", net.add("GlobalAveragePool", b, name="p"), pooled, name="c", axis=1)
        net.head(b, 16 + stem)
        return net
    net.head(b, 16)
    return net


def shapes(net: Net, folder: Path) -> dict[str, list[int]]:
    proto = export_net(net.proto(), folder).proto
    return {t.name: list(t.dims) for t in proto.graph.initializer}


@pytest.mark.parametrize("bits", ["w8a8", "w4a8", "w4a4"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_filled_file_computes_what_the_plain_one_does(
    bits: str, layers: int, tmp_path: Path
) -> None:
    widths = BitWidths.parse(bits)
    for name in ("filled", "plain"):
        (tmp_path / name).mkdir()
    net = mobile(layers=layers)
    filled = export_net(net.proto(), tmp_path / "filled", bits=widths)
    plain = export_net(
        net.proto(),
        tmp_path / "plain",
        bits=widths,
        change=lambda plan: replace(plan, target="portable"),
    )
    dims = {t.name: list(t.dims) for t in filled.proto.graph.initializer}
    assert dims["stem.weight"] == [16, 4, 3, 3]
    assert dims["dw0.weight"] == [16, 1, 3, 3]
    assert dims["pw.weight"] == [16, 16, 1, 1]
    for level in ("off", "all"):
        one, two = (
            Session(found.path, optimization=level).run({"image": filled.x})[0]
            for found in (filled, plain)
        )
        np.testing.assert_array_equal(one, two)


def test_the_student_is_compared_with_the_channels_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETS, "mobile", mobile)
    made = Made(TARGETS[ONNXRUNTIME_CPU.name], "mobile", "w4a8", tmp_path)
    with torch.no_grad():
        x = torch.from_numpy(made.x)
        run = StudentOutputs(made.student.codes(x), made.student(x)[0].numpy())
    parity = measure_parity(made.path, made.x, torch_run=run)
    assert parity is not None
    assert parity.off_vs_torch is not None
    assert parity.off_vs_torch.largest <= 1
    assert parity.off_vs_torch.fraction_without_ties <= 1e-4
    assert made.arrays["stem.weight"].shape == (16, 4, 3, 3)


@pytest.mark.parametrize(
    "net",
    [
        lambda: mobile(stem=16),
        lambda: mobile(stem=24),
        lambda: mobile(kernel=3),
        lambda: mobile(layers=0),
        lambda: mobile(tap="act0_out"),
        lambda: mobile(tap="act1_out"),
        lambda: mobile(activation="HardSwish"),
    ],
)
def test_anything_else_keeps_its_outputs(net: Callable[[], Net], tmp_path: Path) -> None:
    built = net()
    kept = {t.name: list(t.dims) for t in built.tensors}
    found = shapes(built, tmp_path)
    for name in ("stem.weight", "dw0.weight", "pw.weight"):
        if name in kept:
            assert found[name][0] == kept[name][0]
    assert found["pw.weight"] == kept["pw.weight"]


def test_images_as_nhwc_are_not_padded_pixel_by_pixel(tmp_path: Path) -> None:
    net = Net(("N", 8, 8, 3))
    a = net.add("Transpose", "image", name="to_nchw", perm=[0, 3, 1, 2])
    a = net.add("Relu", net.conv(a, "stem", (16, 3, 3, 3), pads=[1] * 4), name="relu")
    net.head(a, 16)
    found = export_net(net.proto(), tmp_path)
    assert not [node for node in found.proto.graph.node if node.op_type == "Pad"]
    assert Session(found.path).run({"image": found.x})[0].shape == (8, 5)
