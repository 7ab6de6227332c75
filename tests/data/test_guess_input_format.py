"""What dfqonnx assumes about a model's images when nobody says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dfqonnx.core.input_format import METADATA_KEY, PRESETS
from dfqonnx.core.progress import RecordingProgress, SilentProgress
from dfqonnx.data.guess_input_format import read_recorded_format
from dfqonnx.errors import UsageError
from dfqonnx.graph.intermediate_outputs import expose_intermediate_outputs, find_first_layer
from dfqonnx.graph.load import load
from dfqonnx.graph.model import NormalizedModel
from dfqonnx.graph.normalize import normalize
from dfqonnx.workflows.resolve_inputs import guess_input_format, resolve_inputs
from tests.synthesis.tiny import tiny


@pytest.fixture(scope="module")
def resnet(root: Path) -> NormalizedModel:
    return normalize(load(root / "models" / "resnet20.onnx"))


def test_what_the_model_says_of_itself_is_believed(tmp_path: Path) -> None:
    said = PRESETS["minus-one-one"]
    progress = RecordingProgress(SilentProgress())
    found = resolve_inputs(
        None,
        tiny(tmp_path),
        metadata={METADATA_KEY: said.to_json()},
        seed=0,
        progress=progress,
    )
    assert found.format.preprocessing == said
    assert not found.guessed
    assert not progress.warnings


def test_metadata_that_cannot_be_read_are_told() -> None:
    with pytest.raises(UsageError, match="give preprocess"):
        read_recorded_format({METADATA_KEY: "{"})


def test_what_was_asked_goes_before_what_the_file_says(tmp_path: Path) -> None:
    asked = PRESETS["zero-one"]
    metadata = {METADATA_KEY: PRESETS["raw"].to_json()}
    found = resolve_inputs(
        asked, tiny(tmp_path), metadata=metadata, seed=0, progress=SilentProgress()
    )
    assert found.format.preprocessing.name == "zero-one"


def test_batchnorm_statistics_give_the_preset_away(resnet: NormalizedModel) -> None:
    guess = guess_input_format(resnet, seed=0)
    assert guess.preprocessing.name == "cifar10"  # what it was trained with
    assert not guess.certain


def test_the_first_layer_tells_pixels_from_normalized_ones(resnet: NormalizedModel) -> None:
    blind = replace(resnet, statistics={})
    guess = guess_input_format(blind, seed=0)
    assert guess.preprocessing.std[0] != 1.0  # not 0..1 and not 0..255
    assert "first layer" in guess.reason


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_without_statistics_layout_and_channels_still_follow_from_the_shape(
    tmp_path: Path, layout: str
) -> None:
    model = tiny(tmp_path, norm=False, layout=layout, channels=1)
    guess = guess_input_format(model, seed=0)
    assert (guess.preprocessing.layout, guess.preprocessing.channels) == (layout, "gray")
    assert len(guess.preprocessing.mean) == 1


def test_an_exposed_value_is_what_the_whole_model_computes(
    root: Path, resnet: NormalizedModel
) -> None:
    opened = ort.InferenceSession(expose_intermediate_outputs(resnet, [resnet.logits]))
    whole = ort.InferenceSession(root / "models" / "resnet20.onnx")
    x = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    (found,), (expected,) = (session.run(None, {resnet.input: x}) for session in (opened, whole))
    # folding BatchNormalization reorders float32 sums, layer after layer
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_what_an_exposed_value_does_not_need_is_left_out(resnet: NormalizedModel) -> None:
    layer = find_first_layer(resnet)
    assert layer is not None
    opened = onnx.load_from_string(expose_intermediate_outputs(resnet, [layer.output]))
    assert [node.op_type for node in opened.graph.node] == ["Conv"]
    assert len(opened.graph.initializer) == 2


def test_images_too_large_to_try_several_presets_are_not_painted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfqonnx.data.guess_input_format.PROBE_VALUES", 16)
    monkeypatch.setattr(
        "dfqonnx.workflows.resolve_inputs.make_probe_images", None
    )  # must not be called
    guess = guess_input_format(tiny(tmp_path), seed=0)
    assert "too large" in guess.reason
    assert not guess.certain


def layer_of_values(path: Path, spread: float) -> NormalizedModel:
    """Gemm -> Relu -> Gemm over 24 values; the first layer's bias has the deviation `spread`."""
    rng = np.random.default_rng(2)
    arrays = {
        "w": rng.normal(0, 24**-0.5, (24, 16)),  # outputs have the deviation of the inputs
        "b": rng.normal(0, spread, 16),
        "v": rng.normal(0, 0.25, (16, 3)),
        "c": rng.normal(0, 1.0, 3),
    }
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
            onnx.helper.make_node("Relu", ["h"], ["r"]),
            onnx.helper.make_node("Gemm", ["r", "v", "c"], ["y"]),
        ],
        "values",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 24])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), n) for n, v in arrays.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return normalize(load(path))


@pytest.mark.parametrize(
    # fields have a deviation of 0.4 to 0.5 of their range, so ranges are about twice the bias's
    ("spread", "high"),
    [(1.0, 4.0), (2.0, 4.0), (30.0, 64.0), (0.03, 0.25)],
)
def test_the_first_bias_tells_the_scale_of_values_where_it_is_far_from_the_usual_one(
    tmp_path: Path, spread: float, high: float
) -> None:
    guess = guess_input_format(layer_of_values(tmp_path / "m.onnx", spread), seed=0)
    low, top = guess.preprocessing.range(0)
    # the next scales are a factor of 4 away, and 16 biases have a deviation within a fifth or so
    assert top == -low
    assert top == pytest.approx(high, rel=1e-6)
    assert not guess.certain
