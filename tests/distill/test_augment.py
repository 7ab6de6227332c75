"""Augmentation moves pixels and blends inputs, reproducibly."""

from __future__ import annotations

import numpy as np
import torch

from dfqonnx.distill.image_pool import flip_and_shift, mixup


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(n: int, side: int) -> torch.Tensor:
    return torch.arange(n * side * side).reshape(n, side, side, 1)


def test_nothing_asked_changes_nothing() -> None:
    x = numbered(8, 6)
    assert torch.equal(flip_and_shift(x, flip=False, shift=0.0, generator=seeded()), x)
    assert torch.equal(mixup(x.float(), fraction=0.0, generator=seeded()), x.float())


def test_about_half_of_the_images_are_mirrored_and_none_is_otherwise_changed() -> None:
    x = numbered(400, 4)
    y = flip_and_shift(x, flip=True, shift=0.0, generator=seeded())
    mirrored = sum(torch.equal(b, a.flip(1)) for a, b in zip(x, y, strict=True))
    kept = sum(torch.equal(b, a) for a, b in zip(x, y, strict=True))
    assert mirrored + kept == 400
    assert 150 < mirrored < 250  # 5 standard deviations around 200


def test_a_shift_equals_cropping_a_reflected_image_in_numpy() -> None:
    x = numbered(64, 8)
    y = flip_and_shift(x, flip=False, shift=0.25, generator=seeded())
    seen = set()
    for a, b in zip(x.numpy()[..., 0], y.numpy()[..., 0], strict=True):
        padded = np.pad(a, 2, mode="reflect")
        crops = {(i, j): padded[i : i + 8, j : j + 8] for i in range(5) for j in range(5)}
        found = [at for at, crop in crops.items() if np.array_equal(crop, b)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 15  # of 25 offsets, in 64 draws


def test_bytes_stay_bytes() -> None:
    x = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert flip_and_shift(x, flip=True, shift=0.25, generator=seeded()).dtype == torch.uint8


def test_mixup_stays_within_the_inputs_and_touches_the_asked_fraction() -> None:
    x = torch.rand(400, 3, 4, 4, generator=seeded(1))
    y = mixup(x, fraction=0.5, generator=seeded())
    assert x.min() <= y.min()
    assert y.max() <= x.max()
    touched = sum(not torch.equal(a, b) for a, b in zip(x, y, strict=True))
    assert 150 < touched < 250  # 5 standard deviations around 200


def test_the_same_seed_gives_the_same_images() -> None:
    x = torch.rand(16, 8, 8, 3, generator=seeded(1))
    for f in (
        lambda g: flip_and_shift(x, flip=True, shift=0.25, generator=g),
        lambda g: mixup(x, fraction=0.5, generator=g),
    ):
        assert torch.equal(f(seeded(7)), f(seeded(7)))
        assert not torch.equal(f(seeded(7)), f(seeded(8)))
