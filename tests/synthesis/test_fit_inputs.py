"""Input formats fitted to BatchNormalization, on networks whose training inputs are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.progress import RecordingProgress, SilentProgress
from dfqonnx.data.guess_input_format import NOISE
from dfqonnx.data.probe_images import make_probe_images
from dfqonnx.synthesis.fit_inputs import fit_inputs
from dfqonnx.workflows.teacher import Teacher, add_inputs, open_program

FEATURES, FRAMES = 12, 20
MEANS = np.linspace(-60, -10, FEATURES)  # decibels that fall with frequency
SPREADS = np.linspace(12, 3, FEATURES)
ALONG = 2, FEATURES  # a kernel that tells features apart


def features(count: int) -> NDArray[np.float32]:
    """What the network was trained on: colored noise over (N, frames, features)."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((count, FRAMES, FEATURES))
    for frame in range(1, FRAMES):
        values[:, frame] = 0.8 * values[:, frame - 1] + 0.6 * values[:, frame]
    return np.asarray(MEANS + SPREADS * values, np.float32)


def save_network(
    path: Path, x: NDArray[np.float32], size: tuple[int, ...], *, kernel: tuple[int, int] = (3, 3)
) -> Path:
    """Conv -> BatchNormalization with the statistics of x -> Relu -> pool -> Gemm.

    `x` is (N, H, W), and `size` the model's input without the batch axis.
    """
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 1, (24, 1, *kernel)).astype(np.float32)
    value = torch.conv2d(torch.from_numpy(x)[:, None], torch.from_numpy(weight))
    arrays = {
        "w": weight,
        "g": np.ones(24),
        "beta": np.zeros(24),
        "mu": value.mean((0, 2, 3)).numpy(),
        "var": value.var((0, 2, 3)).numpy(),
        "w2": rng.normal(0, 1, (24, 3)),
        "shape": np.array([-1, 1, *x.shape[1:]], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["planes"]),
        helper.make_node("Conv", ["planes", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "g", "beta", "mu", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(
                value if value.dtype == np.int64 else value.astype(np.float32), name
            )
            for name, value in arrays.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def opened(path: Path) -> tuple[Teacher, list[str]]:
    progress = RecordingProgress(SilentProgress())
    context = RunContext(progress=progress)
    return add_inputs(*open_program(path), preprocess=None, context=context), progress.warnings


def ends(inputs: InputFormat) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = (limit.astype(float).ravel() for limit in inputs.pixel_limits(1))
    return low, high


@pytest.mark.parametrize("size", [(FRAMES, FEATURES), (1, FRAMES, FEATURES)])
def test_every_feature_gets_the_mean_and_the_range_that_it_was_trained_with(
    tmp_path: Path, size: tuple[int, ...]
) -> None:
    teacher, warnings = opened(save_network(tmp_path / "f.onnx", features(200), size, kernel=ALONG))
    found = teacher.inputs
    assert not found.is_image
    assert found.preprocessing.layout == "NHWC"  # features are counted by the last axis
    low, high = ends(found)
    assert len(low) == FEATURES
    middle, reach = (high + low) / 2, (high - low) / 2
    # 24 channels tell 12 means; fields are no colored noise: within one deviation
    assert np.abs(middle - MEANS).max() < SPREADS.max()
    assert np.corrcoef(middle, MEANS)[0, 1] > 0.95
    # the features of fields go together and these do not, so variances of sums tell the ranges in
    # the mean only: ends are two deviations away where fields have the deviation of half a range
    assert 1 < np.median(reach) / SPREADS.mean() < 4
    assert "structured fields" in warnings[0]


def test_features_may_be_what_the_first_axis_counts(tmp_path: Path) -> None:
    x = np.ascontiguousarray(features(200).transpose(0, 2, 1))
    teacher, _ = opened(
        save_network(tmp_path / "f.onnx", x, (FEATURES, FRAMES), kernel=ALONG[::-1])
    )
    assert teacher.inputs.preprocessing.layout == "NCHW"
    low, high = ends(teacher.inputs)
    assert np.corrcoef((high + low) / 2, MEANS)[0, 1] > 0.95


SCALES: list[tuple[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]]] = [
    ("zero-one", lambda pixels: pixels / 255),
    ("fitted", lambda pixels: (pixels / 255 - 0.1307) / 0.03),
]


@pytest.mark.parametrize(("name", "scaled"), SCALES, ids=["a preset", "no preset"])
def test_gray_images_stay_images_whatever_their_scale(
    tmp_path: Path, name: str, scaled: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    pixels = make_probe_images((24, 32, 1), rng=np.random.default_rng(7), count=200)
    x = scaled(pixels[..., 0].astype(np.float32)).astype(np.float32)
    teacher, _ = opened(save_network(tmp_path / "g.onnx", x, (1, 24, 32)))
    assert teacher.inputs.is_image
    assert teacher.inputs.preprocessing.name == name
    low, high = ends(teacher.inputs)
    # within a third of the true range: 32 images tell their mean and deviation no better
    width = float(scaled(np.array(255, np.float32)) - scaled(np.array(0, np.float32)))
    np.testing.assert_allclose([low, high], scaled(np.array([[0], [255]], "f4")), atol=width / 3)


def test_without_statistics_nothing_is_fitted(tmp_path: Path) -> None:
    path = save_network(tmp_path / "f.onnx", features(20), (FRAMES, FEATURES))
    model, program = open_program(path)
    guessed = InputFormat(NOISE, model.input_shape)
    assert fit_inputs(program, {}, guessed, open_axes=(), context=RunContext()) is None


def test_a_network_too_large_to_try_keeps_what_was_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfqonnx.synthesis.fit_inputs.WORK", 1e6)
    path = save_network(tmp_path / "f.onnx", features(20), (FRAMES, FEATURES))
    model, program = open_program(path)
    guessed = InputFormat(NOISE, model.input_shape)
    assert model.statistics
    context = RunContext()
    assert fit_inputs(program, model.statistics, guessed, open_axes=(), context=context) is None
