"""Images for a comparison that nobody gave images for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfqonnx.data.probe_images import FEWEST, IMAGES, make_probe_images, sample_natural_noise
from dfqonnx.data.unlabeled import read_held_out_images
from dfqonnx.report.files import write_images

PIXELS = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)


@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 12, 1), (1, 7, 1)])
def test_images_have_the_form_asked_and_use_the_range_of_pixels(
    shape: tuple[int, int, int],
) -> None:
    images = make_probe_images(shape, rng=np.random.default_rng(0))
    assert images.shape == (IMAGES, *shape)
    assert images.dtype == np.uint8
    assert images.min() < 20
    assert images.max() > 235


def test_large_images_are_fewer() -> None:
    assert (
        len(make_probe_images((700, 700, 1), rng=np.random.default_rng(0), photo=False)) == FEWEST
    )


def test_the_same_seed_gives_the_same_images() -> None:
    first, again, other = (
        make_probe_images((16, 16, 3), rng=np.random.default_rng(seed), count=4)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_noise_falls_with_frequency_as_asked() -> None:
    noise = sample_natural_noise((64, 64, 64), slope=1.5, rng=np.random.default_rng(0))
    amplitude = np.abs(np.fft.rfft2(noise)).mean(0)[0]  # along one axis, vertical frequency 0
    frequency = np.fft.rfftfreq(64)
    slope = np.polyfit(np.log(frequency[1:24]), np.log(amplitude[1:24]), 1)[0]
    # mean of 64 magnitudes scatters by 0.52 / 8 = 7 %; over 23 frequencies the slope by about 0.03
    assert slope == pytest.approx(-1.5, abs=0.1)


def test_neighboring_pixels_resemble_each_other_as_in_photographs() -> None:
    images = make_probe_images((32, 32, 3), rng=np.random.default_rng(0)).astype(float)
    pairs = images[:, :, 1:].ravel(), images[:, :, :-1].ravel()
    assert np.corrcoef(*pairs)[0, 1] > 0.8  # white noise has 0, photographs about 0.95


def test_the_images_that_a_run_held_out_are_found_beside_its_student(tmp_path: Path) -> None:
    write_images(PIXELS, tmp_path / "synthetic", held=[4, 1], source="dead-leaves")
    found = read_held_out_images(tmp_path / "net.onnx", (4, 4, 3))
    assert found is not None
    np.testing.assert_array_equal(found, PIXELS[[4, 1]])


def test_images_of_another_size_or_unknown_history_are_not_used(tmp_path: Path) -> None:
    student = tmp_path / "net.onnx"
    assert read_held_out_images(student, (4, 4, 3)) is None
    write_images(PIXELS, tmp_path / "synthetic", held=[4, 1], source="dead-leaves")
    assert read_held_out_images(student, (8, 8, 3)) is None
    write_images(PIXELS, tmp_path / "synthetic", source="dead-leaves")
    assert read_held_out_images(student, (4, 4, 3)) is None
    archive = tmp_path / "synthetic" / "images.npz"
    np.savez(archive, x=PIXELS)
    assert read_held_out_images(student, (4, 4, 3)) is None
    np.savez(archive, x=PIXELS, held=[7])
    assert read_held_out_images(student, (4, 4, 3)) is None
    archive.write_bytes(b"no archive")
    assert read_held_out_images(student, (4, 4, 3)) is None
