from __future__ import annotations

from pathlib import Path

import pytest

from dfqonnx.errors import UsageError
from dfqonnx.graph.load import load
from dfqonnx.graph.normalise import normalise
from dfqonnx.spec.inputs import METADATA_KEY, PRESETS
from dfqonnx.synth.guess import guess_inputs
from tests.synth.tiny import program, tiny


def test_what_the_model_says_of_itself_is_believed(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    metadata = {METADATA_KEY: PRESETS["minus-one-one"].to_json()}
    guess = guess_inputs(
        program(model), model.statistics, shape=model.input_shape, metadata=metadata, seed=0
    )
    assert guess.certain
    assert guess.inputs == PRESETS["minus-one-one"]


def test_metadata_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    with pytest.raises(UsageError, match="--preprocess"):
        guess_inputs(
            program(model), {}, shape=model.input_shape, metadata={METADATA_KEY: "{"}, seed=0
        )


def test_batchnorm_statistics_give_the_preset_away(root: Path) -> None:
    model = normalise(load(root / "models" / "resnet20.onnx"))
    guess = guess_inputs(
        program(model), model.statistics, shape=model.input_shape, metadata={}, seed=0
    )
    assert guess.inputs.name == "cifar10"  # what it was trained with
    assert not guess.certain


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_without_statistics_layout_and_channels_still_follow_from_the_shape(
    tmp_path: Path, layout: str
) -> None:
    model = tiny(tmp_path, norm=False, layout=layout, channels=1)
    guess = guess_inputs(program(model), {}, shape=model.input_shape, metadata={}, seed=0)
    assert (guess.inputs.layout, guess.inputs.channels) == (layout, "gray")
    assert len(guess.inputs.mean) == 1
