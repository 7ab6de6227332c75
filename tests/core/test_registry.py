"""A table of names: what it refuses, and what it suggests."""

from __future__ import annotations

import pytest

import dfqonnx.targets  # noqa: F401  (registers the targets)
from dfqonnx.core.registry import Registry
from dfqonnx.errors import InternalError, UsageError, did_you_mean
from dfqonnx.targets.profile import ELSEWHERE, TARGETS


def sources() -> Registry[int]:
    found = Registry[int]("source")
    found.add("noise")(1)
    found.add("dead-leaves")(2)
    return found


def test_names_are_found_counted_and_listed_in_order() -> None:
    found = sources()
    assert (found["noise"], len(found), list(found)) == (1, 2, ["dead-leaves", "noise"])
    assert "noise" in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zzzz", "unknown source 'zzzz'. Known: dead-leaves, noise."),
        ("nois", "unknown source 'nois'; did you mean 'noise'? Known: dead-leaves, noise."),
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        sources()[name]
    assert str(caught.value) == message


def test_names_of_others_are_answered_with_ours() -> None:
    found = Registry[int]("source", {"leaves": "dead-leaves"})
    found.add("dead-leaves")(1)
    with pytest.raises(UsageError, match="unknown source 'Leaves'; did you mean 'dead-leaves'"):
        found["Leaves"]


def test_every_name_of_others_means_a_target_that_is_there() -> None:
    assert set(ELSEWHERE.values()) <= set(TARGETS)
    assert not set(ELSEWHERE) & set(TARGETS)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(InternalError, match="registered twice"):
        sources().add("noise")(3)


def test_a_suggestion_can_be_given_and_the_list_left_out() -> None:
    assert did_you_mean("drp", ["drop"], label="") == "; did you mean 'drop'?"
    assert did_you_mean("x", ["a"], preferred="b.x") == "; did you mean 'b.x'? Known: a."
