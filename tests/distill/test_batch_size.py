"""How many images at once."""

from __future__ import annotations

import pytest

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.core.context import MemoryShare, RunContext
from dfqonnx.distill import batch_size as module
from dfqonnx.distill.batch_size import (
    FORWARD_BYTES,
    OPEN_BATCH,
    OPEN_MEMORY,
    choose_batch_sizes,
    fitting_batch,
)


def test_a_batch_shrinks_until_training_fits_into_memory() -> None:
    assert fitting_batch(128, 364_000) == 128  # ResNet-20
    assert fitting_batch(128, 1_411_000) == 32  # MobileNetV1 0.25 at 224 x 224
    assert fitting_batch(128, 10**8) == 1
    assert fitting_batch(4, 10**9) == 1
    assert fitting_batch(OPEN_BATCH, 1_411_000, memory=OPEN_MEMORY) == 16
    assert fitting_batch(256, 1_411_000, each=FORWARD_BYTES) == 128  # no gradients: more at once


def sizes(config: DistillationConfig, values: int, share: float = 1.0) -> tuple[int, int, int, int]:
    found = choose_batch_sizes(config, values, RunContext(memory=MemoryShare(share)))
    return found.training, found.part, found.calibration, found.gptq


def test_an_open_schedule_trains_in_small_batches_and_measures_in_wide_ones() -> None:
    small, large = 364_000, 1_411_000  # ResNet-20 at 32 x 32, MobileNetV1 0.25 at 224 x 224
    assert sizes(DistillationConfig(), small) == (64, 64, 128, 256)
    assert sizes(DistillationConfig(), large) == (16, 16, 32, 128)
    assert sizes(DistillationConfig(steps=9), small) == (128, 128, 128, 256)
    assert sizes(DistillationConfig(steps=9), large) == (32, 32, 32, 128)
    assert sizes(DistillationConfig(steps=9, batch_size=16), small) == (16, 16, 16, 32)


def test_a_step_keeps_its_images_where_memory_is_short_and_they_pass_in_parts() -> None:
    large = 1_411_000
    assert sizes(DistillationConfig(), large, 1 / 8) == (16, 4, 4, 16)
    assert sizes(DistillationConfig(steps=9), large, 1 / 8) == (32, 4, 4, 16)


def test_an_open_schedule_takes_no_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda context: 1)
    assert sizes(DistillationConfig(), 364_000) == (1, 1, 1, 1)
