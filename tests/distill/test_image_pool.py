"""Kinds of images: equal shares in a batch, none held out and trained on."""

from __future__ import annotations

import numpy as np
import torch

from dfqonnx.core.context import RunContext
from dfqonnx.core.input_format import PRESETS, InputFormat
from dfqonnx.distill.image_pool import ImagePool

IMAGES = np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(3, 3)  # (200, 1, 1, 3)
KINDS = (np.arange(200) < 40).astype(np.int64)


def pool(kinds: np.ndarray | None = KINDS) -> ImagePool:
    inputs = InputFormat(PRESETS["raw"], (3, 1, 1))
    return ImagePool(IMAGES, inputs, holdout=16, context=RunContext(), kinds=kinds)


def test_a_batch_holds_equal_shares_of_each_kind() -> None:
    batches = pool().draw(20, torch.Generator().manual_seed(0))
    for _ in range(9):
        values = next(batches)[:, 0, 0, 0].numpy()
        assert int(KINDS[values].sum()) == 10


def test_every_image_of_a_kind_comes_once_before_any_comes_again() -> None:
    found = pool()
    rare = {int(v) for v in found.train[:, 0, 0, 0] if v < 40}
    batches = found.draw(2, torch.Generator().manual_seed(0))
    seen = [int(v) for _ in rare for v in next(batches)[:, 0, 0, 0] if v < 40]
    assert sorted(seen) == sorted(rare)


def test_held_out_images_hold_both_kinds_and_are_not_trained_on() -> None:
    found = pool()
    held = found.held_out[:, 0, 0, 0].numpy()
    assert KINDS[held].sum() == 5  # an eighth of 40
    assert len(held) == 13
    assert not set(held.tolist()) & set(found.train[:, 0, 0, 0].tolist())
    assert len(held) + len(found.train) == 200


def test_a_kind_of_a_few_images_gets_no_share_of_its_own() -> None:
    few = (np.arange(200) < 3).astype(np.int64)
    one, none = pool(few), pool(None)
    assert torch.equal(one.train, none.train)
