"""Patterns and composites: what they are by construction."""

from __future__ import annotations

import pytest
import torch

from dfqonnx.synth.composite import composites, masks
from dfqonnx.synth.patterns import Weave, patterns


def weave(
    n: int,
    *,
    seed: int = 0,
    height: int = 32,
    width: int = 32,
    channels: int = 3,
    weave: Weave | None = None,
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    chunks = patterns(
        n, height=height, width=width, channels=channels, generator=generator, weave=weave
    )
    return torch.cat(list(chunks))


def test_the_same_seed_weaves_the_same_patterns() -> None:
    assert torch.equal(weave(5), weave(5))
    assert not torch.equal(weave(5), weave(5, seed=1))


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(32, 32, 3), (20, 36, 1), (1, 9, 3), (100, 130, 4)]
)
def test_patterns_come_in_any_size_and_number_of_channels(
    height: int, width: int, channels: int
) -> None:
    images = weave(3, height=height, width=width, channels=channels)
    assert images.shape == (3, height, width, channels)
    assert images.dtype == torch.uint8


def test_level_and_contrast_are_those_asked_for() -> None:
    plain = Weave(level=0.5, level_spread=0.0, contrast=0.1, contrast_spread=0.0, grain=0.0)
    images = weave(64, channels=1, weave=plain).double() / 255
    # a plane of variance 1 is scaled to a standard deviation of 0.9 * 0.1 about 0.5; rounding to
    # bytes and clipping the few values beyond five deviations move both by less than 0.002
    torch.testing.assert_close(
        images.mean((1, 2, 3)), torch.full((64,), 0.5).double(), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(
        images.std((1, 2, 3)), torch.full((64,), 0.09).double(), atol=2e-3, rtol=0
    )


def test_patterns_are_smoother_than_noise() -> None:
    images = weave(64).double().mean(-1)
    neighbours = (images[:, 1:] - images[:, :-1]).abs().mean()
    anywhere = (images.flatten(1)[:, torch.randperm(1024)] - images.flatten(1)).abs().mean()
    assert neighbours < 0.5 * anywhere


def test_masks_lie_about_the_centre_and_are_neither_empty_nor_full() -> None:
    found = masks(512, height=32, width=32, generator=torch.Generator().manual_seed(0))
    assert float(found.min()) == 0.0
    assert float(found.max()) == 1.0
    centre, corner = found[:, 12:20, 12:20].mean(), found[:, :4, :4].mean()
    assert centre > 0.6 > 0.25 > corner


def test_a_composite_is_one_image_inside_and_another_outside() -> None:
    pair = torch.stack([torch.zeros(32, 32, 1), torch.full((32, 32, 1), 200.0)]).to(torch.uint8)
    made = composites(64, pair, generator=torch.Generator().manual_seed(0))
    assert made.shape == (64, 32, 32, 1)
    assert made.dtype == torch.uint8
    pure = (made == 0) | (made == 200)
    assert pure.float().mean() > 0.9  # only the outline, about a pixel wide, mixes the two
    assert int((made.flatten(1).max(1).values != made.flatten(1).min(1).values).sum()) > 16


def test_no_composites_are_made_when_none_are_asked_for() -> None:
    pair = torch.zeros(2, 8, 6, 3, dtype=torch.uint8)
    assert composites(0, pair, generator=torch.Generator()).shape == (0, 8, 6, 3)
