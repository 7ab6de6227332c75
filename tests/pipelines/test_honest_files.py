"""The table of honest files: what is measured, on which inputs, and what stands on the page."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import to_array

from dfqonnx.core.input_format import InputFormat, Preprocessing
from dfqonnx.core.quantization import BitWidths, QuantizationConfig
from dfqonnx.graph.normalize import open_model
from dfqonnx.placement.place import place_quantizers
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from tests.contracts.nets import Builder


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "pipelines" / "benchmarks"))
    return importlib.import_module("honest_files")


def test_ten_times_the_error_is_twenty_decibels_less(page: Any, tmp_path: Path) -> None:
    b = Builder()
    y = b.conv(b.conv_relu("x", 3, 8), 8, 2)
    nodes, levels = list(b.nodes), []
    raw = Preprocessing(name="raw", scale=1.0, mean=(0.0,), std=(1.0,))
    for index, shift in enumerate((0.0, 0.5, 5.0)):
        b.nodes[:] = nodes
        proto = b.model(b.op("Add", y, b.constant(np.float32(shift))))
        onnx.save(proto, tmp_path / f"{index}.onnx")
    model = open_model(tmp_path / "0.onnx")
    for index in (1, 2):
        files = (tmp_path / "0.onnx", tmp_path / f"{index}.onnx")
        levels.append(page.measure(model, files, raw, text=False)[0])
    assert levels[0] - levels[1] == pytest.approx(20, abs=1e-3)  # float32 sums


def test_inputs_are_the_same_each_time_and_with_text_where_it_is_read(page: Any) -> None:
    raw = Preprocessing(name="raw", scale=1.0, mean=(0.0,), std=(1.0,))
    inputs = InputFormat(raw, (3, 32, 64))
    plain, again, text = (page.fresh_inputs(inputs, text=t) for t in (False, False, True))
    assert np.array_equal(plain, again)
    half = len(plain) // 2
    assert np.array_equal(plain[half:], text[half:])
    assert not np.array_equal(plain[:half], text[:half])


def test_rounded_weights_are_the_nearest_of_their_channels_scale(page: Any, tmp_path: Path) -> None:
    b = Builder()
    onnx.save(b.model(b.conv(b.conv_relu("x", 3, 8), 8, 2)), tmp_path / "net.onnx")
    model = open_model(tmp_path / "net.onnx")
    page.round_weights(model, "w4a8", tmp_path / "rounded.onnx")
    found = {t.name: to_array(t) for t in onnx.load(tmp_path / "rounded.onnx").graph.initializer}
    before = {name: v.const_value.numpy() for name, v in model.ir.graph.initializers.items()}
    bits = QuantizationConfig(BitWidths.parse("w4a8"))
    plan = place_quantizers(model, bits, ONNXRUNTIME_CPU, input_signed=True)
    steps = {each.weight: 2 ** (each.grid.bits - 1) - 1 for each in plan.weights}
    weights = [name for name, array in before.items() if array.ndim == 4]
    assert set(steps) == set(weights)
    for name in weights:
        flat = before[name].reshape(len(before[name]), -1).astype(np.float64)
        scale = np.abs(flat).max(1, keepdims=True) / steps[name]
        assert (np.abs(found[name].reshape(flat.shape) - flat) <= scale / 2 * 1.0001).all()
        codes = found[name].reshape(flat.shape) / scale
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)  # float32 of codes to 127
    rest = before.keys() - set(weights)
    assert all(np.array_equal(found[name], before[name]) for name in rest)


def test_a_refusal_has_its_line_and_its_reason(page: Any) -> None:
    found = page.render([page.Record(name="a", bits="w8a8", verdict="refused", why=("no Conv",))])
    assert found.endswith("| a | w8a8 |  |  |  |  |  | refused | 0 | no Conv |\n")
