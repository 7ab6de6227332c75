"""Pictures of writing: their shapes, their reproducibility, and what photographs lack."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import features

from dfqonnx.data.text_images import is_line_of_text, mix_in_text, text_images

SHAPES = [(1, 1, 1), (8, 8, 3), (4, 500, 3), (2, 3, 4), (48, 320, 3), (1, 640, 1), (60, 20, 3)]


def draw(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.stack(list(text_images(count, shape, np.random.default_rng(seed))))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_gets_as_many_pictures_as_asked(shape: tuple[int, int, int]) -> None:
    found = draw(12, shape)
    assert found.shape == (12, *shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, draw(12, shape))
    assert (found != draw(12, shape, seed=1)).any()


def test_text_takes_its_share_of_the_places_of_other_images_evenly() -> None:
    pixels = np.zeros((8, 16, 64, 1), np.uint8)
    found = mix_in_text(pixels, np.random.default_rng(0))
    written = [bool(image.any()) for image in found]  # three of four, as for every wide image
    assert written == [False, True, True, True] * 2
    assert not pixels.any()
    assert [is_line_of_text(size) for size in ((48, 320, 3), (8, 16, 1), (16, 31, 3))] == [
        True, True, False,
    ]  # fmt: skip


def test_a_wide_picture_is_a_line_that_may_end_early() -> None:
    found = draw(200, (32, 128, 1))[..., 0].astype(int)
    flat = (found == found[:, :1, :]).all(1)  # (N, W): columns of one gray
    ends = np.array([np.flatnonzero(~row)[-1] if (~row).any() else -1 for row in flat])
    early = found.shape[2] - 1 - ends > 4
    assert 0.3 < early.mean() < 0.7  # half of them; 200 draws have a deviation of 0.035
    filled = [found[k, 0, -1] for k in np.flatnonzero(early)]
    assert {0, 128, 255} <= set(filled)


def test_writing_stands_out_from_its_ground() -> None:
    found = draw(100, (48, 96, 1))[..., 0].astype(float)
    low, high = np.quantile(found, [0.02, 0.98], axis=(1, 2))
    # contrast is at least a fifth of the range; thin and blurred strokes keep half of it
    assert np.mean(high - low > 0.1 * 255) > 0.9


def test_without_freetype_glyphs_are_drawn_from_strokes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: False)
    monkeypatch.setattr("dfqonnx.data.text_images.ImageFont.load_default", None)
    assert draw(20, (32, 128, 1)).std((1, 2, 3)).min() > 0
