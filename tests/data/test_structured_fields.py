"""Samples for inputs that are no images."""

from __future__ import annotations

import numpy as np
import pytest

from dfqonnx.data.structured_fields import (
    LEAST_CONTRAST,
    MOST_CONTRAST,
    NOISE_SHARE,
    structured_fields,
)
from tests.data.pooling_network import pooled_features


def sample(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.concatenate(list(structured_fields(count, shape, np.random.default_rng(seed))))


@pytest.mark.parametrize(
    "shape", [(90, 12, 1), (1, 640, 1), (1, 16000, 1), (49, 10, 1), (1, 1, 1), (5, 1, 1), (6, 7, 2)]
)
def test_every_shape_gets_as_many_samples_as_asked(shape: tuple[int, int, int]) -> None:
    found = sample(9, shape)
    assert found.shape == (9, *shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, sample(9, shape))
    assert (found != sample(9, shape, seed=1)).any()


def test_samples_differ_in_level_and_contrast_as_documented() -> None:
    values = sample(600, (40, 30, 1)).astype(float)[..., 0] / 127.5 - 1
    inside = np.abs(values.mean((1, 2))) < 0.3  # samples that are cut little
    low, high = np.quantile(values.std((1, 2))[inside], (0.1, 1))
    # silence for most of the time leaves less than the contrast; a gate's floor lies up to three
    # contrasts below the level, which doubles the deviation where half of the time is silent
    assert LEAST_CONTRAST / 2 < low < 2 * LEAST_CONTRAST
    assert MOST_CONTRAST < high < 2 * MOST_CONTRAST
    assert values.min() == -1
    assert values.max() == 1


def test_a_share_is_white_noise_and_the_others_have_structure() -> None:
    values = sample(400, (64, 64, 1)).astype(float)[..., 0]
    neighbors = [
        np.corrcoef(v[1:].ravel(), v[:-1].ravel())[0, 1]
        for v in values
        if v.std() > 0  # a level beyond the range is cut to a constant
    ]
    # the correlation of 4,032 pairs of white noise scatters by 1 / 64; fields of slope 0 are
    # about as white, and some repeat in steps that are not those of neighbors
    white = np.mean(np.abs(neighbors) < 4 / 64)
    assert NOISE_SHARE - 0.07 < white < NOISE_SHARE + 0.15


def test_structure_drives_features_behind_a_global_pooling_beyond_noise() -> None:
    rng = np.random.default_rng(5)
    noise = np.clip(rng.normal(0, 0.25, (40, 48, 24)), -1, 1).astype(np.float32)
    fields = sample(40, (48, 24, 1))[..., 0] / np.float32(127.5) - 1
    reached = [
        (float(pooled_features(fields, seed).max()), float(pooled_features(noise, seed).max()))
        for seed in range(8)
    ]
    # a max over all places is nearly the same for every sample of noise
    assert np.median([ours / theirs for ours, theirs in reached]) > 1.5
