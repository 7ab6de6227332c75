"""Limits as people write them, and the drop that a noise means."""

from __future__ import annotations

import pytest

from dfqonnx.config.request import command_of, run_request
from dfqonnx.config.search_limits import SearchLimits, read_limits
from dfqonnx.errors import UsageError
from dfqonnx.evaluation.drop_estimate.regression import shipped_regression
from dfqonnx.mixed_precision.drop_of_noise import drop_of_noise, noise_of_drop
from dfqonnx.mixed_precision.width_problem import candidate_widths
from dfqonnx.targets.profile import TARGETS


def limits(**given: str) -> SearchLimits:
    found = read_limits(
        given.get("bits", "4"), given.get("drop"), given.get("size"), given.get("speed")
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "of_a_million"),
    [
        ("0.12x", 120_000),
        ("12%", 120_000),
        ("500KiB", 512_000),
        ("500 kib", 512_000),
        ("0.5MB", 500_000),
        ("500000", 500_000),
        ("1e5", 100_000),
    ],
)
def test_sizes_are_read_in_their_units(text: str, of_a_million: int) -> None:
    size = limits(size=text).max_size
    assert size is not None
    assert size.of(1_000_000) == of_a_million


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"size": "0.12"}, "share or bytes"),
        ({"size": "0.12y"}, "cannot be read"),
        ({"size": "1.5x"}, "0.01x to 1x"),
        ({"size": "0x"}, "0.01x to 1x"),
        ({"size": "nan"}, "cannot be read"),
        ({"size": "-5KiB"}, "cannot be read"),
        ({"size": ""}, "cannot be read"),
        ({"size": "1..2MB"}, "cannot be read"),
        ({"drop": "0"}, "above 0"),
        ({"drop": "-1"}, "above 0"),
        ({"drop": "nan"}, "above 0"),
        ({"drop": "90"}, "up to 50"),
        ({"drop": "half"}, "such as"),
        ({"speed": "0x"}, "above 0"),
        ({"speed": "100x"}, "up to"),
        ({"speed": "fast"}, "such as 1.5x"),
        ({"drop": "1", "size": "0.2x", "speed": "2"}, "one or two"),
        ({"bits": "w3a8", "size": "0.2x"}, "look for widths"),
    ],
)
def test_limits_that_cannot_be_are_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        limits(**given)


def test_without_limits_nothing_is_looked_for_and_auto_sets_its_own() -> None:
    assert read_limits("w4a8", None, None, None) is None
    assert limits(bits="auto").is_automatic
    assert limits(bits="auto", drop="1").max_drop == 1.0


def test_the_command_of_a_search_repeats_the_search() -> None:
    found = limits(size="0.2x", drop="1")
    config = run_request("m.onnx", "4", limits=found, bits_for=["head*=w8a8"])
    command = command_of(config)
    assert "--max-drop 1 --max-size 0.2x" in command
    assert "head*=w8a8" in command
    assert config.student_name == "m.mixed.onnx"
    assert str(config.out) == "m-mixed"
    assert "--bits auto" in command_of(run_request("m.onnx", "auto", limits=limits(bits="auto")))


def test_ends_of_their_own_beside_a_search_are_refused() -> None:
    with pytest.raises(UsageError, match=r"strict.ends 8"):
        run_request("m.onnx", "auto", strict_ends=8, limits=limits(bits="auto"))


@pytest.mark.parametrize("certainty", [0.2, 0.6, 0.9])
@pytest.mark.parametrize("drop", [0.1, 0.5, 5.0])
def test_the_most_noise_for_a_drop_means_that_drop(drop: float, certainty: float) -> None:
    noise = noise_of_drop(drop, certainty)
    assert shipped_regression("fixed").predict(noise, certainty)[0] == pytest.approx(drop, rel=1e-6)
    assert drop_of_noise(noise, certainty) == pytest.approx(drop, rel=1e-6)


def test_candidates_are_the_widest_weights_of_each_size_that_a_file_can_have() -> None:
    assert candidate_widths(TARGETS["onnxruntime-cpu"], "auto").weights == (4, 8)
    assert candidate_widths(TARGETS["onnxruntime-cpu"], "int8").weights == (8,)
    assert candidate_widths(TARGETS["size"], "auto").weights == (2, 4, 8)
    for name in TARGETS:
        widths = candidate_widths(TARGETS[name], "auto")
        limit = TARGETS[name].least_weights
        assert limit is None or min(widths.weights) >= limit.bits
        assert 8 in widths.activations
