"""Contact sheets: those of a run and of `synth` are made alike, and say what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfqonnx.report.files import write_images
from dfqonnx.report.html.images import captioned_sheet, class_sheet, contact_sheet
from dfqonnx.report.sections import HeldOutClasses

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
CLASSES = np.arange(20) % 3


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_the_caption_stands_below_and_the_images_are_untouched(
    classes: np.ndarray | None, channels: int
) -> None:
    pixels = np.repeat(PIXELS[..., :1], channels, -1) if channels != 3 else PIXELS
    sheet = captioned_sheet(pixels, count=1234, source="optimized", classes=classes)
    plain = contact_sheet(pixels) if classes is None else class_sheet(pixels, classes)
    above = sheet.crop((0, 0, *plain.size))
    np.testing.assert_array_equal(np.asarray(above), np.asarray(plain.convert("RGB")))
    caption = np.asarray(sheet)[plain.height :]
    assert caption.shape[0] >= 16
    assert (caption < 200).any()  # something is written


def test_a_narrow_sheet_has_a_caption_of_several_lines_inside_its_width() -> None:
    sheet = captioned_sheet(PIXELS[:1, :, :1].repeat(9, 0), count=9, source="dead-leaves")
    plain = contact_sheet(PIXELS[:1, :, :1].repeat(9, 0))
    assert sheet.width == plain.width
    assert sheet.height > plain.height + 16


def test_large_images_are_reduced() -> None:
    large = np.zeros((6, 448, 448, 3), np.uint8)
    sheet = captioned_sheet(large, count=6, source="optimized", classes=np.zeros(6, np.int64))
    assert max(sheet.size) < 1500


def test_a_run_shows_its_held_out_images_by_class(tmp_path: Path) -> None:
    classes = HeldOutClasses(images=(4, 7, 30), teacher=(2, 0, 1), student=(2, 1, 1))
    write_images(PIXELS, tmp_path, source="optimized", classes=classes)  # 30 is an own image
    with Image.open(tmp_path / "contact-sheet.png") as found:
        expected = captioned_sheet(
            PIXELS[[4, 7]], count=20, source="optimized", classes=np.array([2, 0])
        )
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
