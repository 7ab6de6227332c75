from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfqonnx.synth.gallery import contact_sheet, save_images, save_sheet


@pytest.mark.parametrize("shape", [(5, 32, 32, 3), (120, 28, 28, 1), (1, 224, 224, 3)])
def test_a_sheet_shows_the_first_image_in_its_corner(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    sheet = np.asarray(contact_sheet(pixels))
    assert (sheet[2, 2] == pixels[0, 0, 0]).all()
    assert sheet.shape[2] == 3


def test_images_come_back_from_disk_and_files_repeat(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    save_images(pixels, tmp_path / "a.npz")
    save_images(pixels, tmp_path / "b.npz")
    assert np.array_equal(np.load(tmp_path / "a.npz")["x"], pixels)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    save_sheet(pixels, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0
