from __future__ import annotations

import numpy as np
import pytest
import torch

from dfqonnx.synthesis.sources import dead_leaves as painting
from dfqonnx.synthesis.sources.dead_leaves import (
    DeadLeavesParams,
    dead_leaves,
    params_for_size,
    sample_power_noise,
)


def paint(n: int, *, seed: int = 0, size: int = 64, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    chunks = dead_leaves(n, (size, size, channels), generator)
    return torch.cat(list(chunks))


def amplitude_slope(images: np.ndarray) -> float:
    """Slope of log amplitude against log frequency, rings of one to a quarter of the side."""
    size = images.shape[-1]
    power = np.abs(np.fft.fft2(images - images.mean((1, 2), keepdims=True))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) * size
    rings = np.arange(2, size // 4)
    mean = [power.mean(0)[np.abs(frequency - ring) < 0.5].mean() for ring in rings]
    return float(np.polyfit(np.log(rings), 0.5 * np.log(mean), 1)[0])


@pytest.mark.parametrize("size", [64, 160])
def test_leaves_have_the_amplitude_spectrum_of_photographs(size: int) -> None:
    images = paint(96, size=size).numpy().mean(-1)
    # photographs: amplitude f^-s with s about 0.8 to 1.5 (Tolhurst, Tadmor and Chao 1992);
    # leaves with edges of one pixel and few small shapes lie at the steep end
    assert -1.7 < amplitude_slope(images) < -0.8


def test_the_smallest_shapes_of_large_images_are_some_pixels_wide_whatever_the_size() -> None:
    assert params_for_size(32) == params_for_size(64) == DeadLeavesParams()
    for side in (128, 224, 640):
        params = params_for_size(side)
        assert params.smallest * side == pytest.approx(6.7)  # a product of what was divided
        # as many more as they are smaller, so that they hide the background as often
        assert params.shapes * params.smallest == pytest.approx(3.1, rel=0.02)  # whole shapes


@pytest.mark.parametrize(("height", "width"), [(120, 200), (200, 120)])
def test_painting_a_shape_only_where_it_lies_gives_the_whole_image(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def images() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        chunks = dead_leaves(4, (height, width, 3), generator)
        return torch.cat(list(chunks))

    where_they_lie = images()
    monkeypatch.setattr(painting, "_span", lambda *args: (0, args[-1]))
    everywhere = images()
    # hypot may differ in its last bit between the inside and the end of a row, hence one level
    assert (where_they_lie.int() - everywhere.int()).abs().max() <= 1
    assert (where_they_lie != everywhere).float().mean() < 1e-4


@pytest.mark.parametrize("slope", [0.0, 1.0, 1.5])
def test_noise_has_the_slope_that_was_asked_for(slope: float) -> None:
    noise = sample_power_noise(
        (64, 64, 64), slope=slope, generator=torch.Generator().manual_seed(0)
    )
    # 64 planes: each ring's mean power is known to a few percent, the slope to about 0.02
    assert amplitude_slope(noise.numpy()) == pytest.approx(-slope, abs=0.05)
    # each plane is scaled to exactly this, up to float32 sums over 4096 values
    torch.testing.assert_close(noise.square().mean((-2, -1)), torch.ones(64), rtol=1e-4, atol=0)


def test_the_same_seed_paints_the_same_images() -> None:
    assert torch.equal(paint(5), paint(5))
    assert not torch.equal(paint(5), paint(5, seed=1))


def test_leaves_come_in_any_size_and_number_of_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    chunks = list(dead_leaves(3, (20, 36, 1), generator))
    assert torch.cat(chunks).shape == (3, 20, 36, 1)
    assert chunks[0].dtype == torch.uint8


def test_luminance_varies_more_than_chroma() -> None:
    images = paint(64, size=32).float()
    luminance = images.mean(-1)
    chroma = images - luminance.unsqueeze(-1)
    assert luminance.std() > 2 * chroma.std()  # photographs: 3 to 5 times
