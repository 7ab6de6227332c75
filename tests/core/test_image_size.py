"""`--image-size`: what is read, and what is told of the rest."""

from __future__ import annotations

import pytest

from dfqonnx.config.request import read_image_size
from dfqonnx.core.input_format import parse_image_size
from dfqonnx.errors import UsageError


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("240x320", (240, 320)), ("224", (224,)), (" 240X320 ", (240, 320)), ("240,320", (240, 320))],
)
def test_height_and_width_or_one_number(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_image_size(text) == sizes


@pytest.mark.parametrize("text", ["", "x", "240x", "0x32", "-4", "1x2x3", "240 320", "big"])
def test_anything_else_is_a_mistake_that_says_how(text: str) -> None:
    with pytest.raises(UsageError, match="HEIGHTxWIDTH"):
        parse_image_size(text)


def test_python_may_give_numbers() -> None:
    assert read_image_size(224) == (224,)
    assert read_image_size((240, 320)) == (240, 320)
    assert read_image_size(None) is None
