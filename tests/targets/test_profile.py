"""The profile: number formats, names, and that nothing in it is an option that nobody reads."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from dfqonnx.core.quantization import INT8, UINT8, IntegerRange, NumberFormat
from dfqonnx.errors import InternalError, UsageError
from dfqonnx.targets import profile
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import TARGETS, Kernel, OpsetVersion, recorded_target

PACKAGE = Path(profile.__file__).parents[1]
VALUES = (profile.TargetProfile, Kernel, OpsetVersion, profile.Packing, profile.ChannelPadding)


@pytest.mark.parametrize(
    ("number_format", "negative", "bits", "expected"),
    [
        (UINT8, False, 4, (0, 15, 0)),
        (UINT8, True, 4, (0, 15, 8)),
        (UINT8, True, 8, (0, 255, 128)),
        (INT8, True, 8, (-128, 127, 0)),
        (INT8, True, 2, (-2, 1, 0)),
        (INT8, False, 7, (0, 127, 0)),
        (INT8, False, 8, (-128, 127, 0)),
        (NumberFormat(signed=True, zero_points=True), False, 8, (-128, 127, -128)),
        (NumberFormat(signed=True, zero_points=True), True, 8, (-128, 127, 0)),
    ],
)
def test_a_format_gives_as_many_levels_as_its_container_and_zero_points_allow(
    number_format: NumberFormat, negative: bool, bits: int, expected: tuple[int, int, int]
) -> None:
    grid = number_format.grid(bits, negative=negative)
    assert grid == IntegerRange(bits, *expected)
    assert number_format.limits_for(bits)[0] <= grid.lo
    assert grid.hi <= number_format.limits_for(bits)[1]
    assert grid.limits == (grid.lo - grid.zero_point, grid.hi - grid.zero_point)


def test_codes_that_cannot_be_negative_need_zero_points() -> None:
    with pytest.raises(InternalError, match="no negative numbers"):
        NumberFormat(signed=False, zero_points=False)


def test_an_unknown_target_names_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"'ort-cpu'; did you mean 'onnxruntime-cpu'\?"):
        TARGETS["ort-cpu"]


def test_a_file_that_names_no_known_target_is_judged_by_the_default() -> None:
    assert recorded_target({}) is ONNXRUNTIME_CPU
    assert recorded_target({"dfqonnx.target": "someone-else's"}) is ONNXRUNTIME_CPU


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_every_field_is_read_somewhere(value: type) -> None:
    read = {
        node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    assert {field.name for field in dataclasses.fields(value)} <= read
