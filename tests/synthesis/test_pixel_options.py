"""What papers ask of pixel optimization: starts, learning rates, classes, a student as opponent."""

from __future__ import annotations

import math

import pytest
import torch

from dfqonnx.config.synthesis import PixelOptimizationConfig
from dfqonnx.synthesis.losses.labels import balanced_labels
from dfqonnx.synthesis.sources.pixel_optimization import make_lr_schedule


def rates(pixels: PixelOptimizationConfig, losses: list[float]) -> list[float]:
    """The rate that every step is taken at."""
    value = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([value], lr=pixels.lr)
    set_lr = make_lr_schedule(optimizer, pixels, len(losses))
    found = []
    for step, loss in enumerate(losses):
        found.append(optimizer.param_groups[0]["lr"])
        value.grad = torch.ones(1)
        optimizer.step()
        set_lr(step, loss)
    return found


def test_a_cosine_begins_at_the_rate_and_ends_near_its_last() -> None:
    found = rates(PixelOptimizationConfig(lr=2.0, min_lr_ratio=0.1), [1.0] * 10)
    wanted = [2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 10))) for k in range(10)]
    assert found == pytest.approx(wanted)


def test_a_plateau_divides_the_rate_by_ten_when_the_loss_stands_still_but_not_below_the_last() -> (
    None
):
    falling_loss = [10.0 - k for k in range(4)]
    pixels = PixelOptimizationConfig(lr=0.5, lr_schedule="plateau", patience=2, min_lr_ratio=0.02)
    found = rates(pixels, [*falling_loss, *[7.0] * 9])
    # the last improvement is step 3; after 2 more without one the third lowers the rate
    assert found[:7] == [0.5] * 7
    assert found[7:10] == pytest.approx([0.05] * 3)
    assert found[10:] == pytest.approx([0.01] * 3)  # 0.02 x 0.5, not 0.005


def test_a_constant_rate_stays() -> None:
    assert (
        rates(PixelOptimizationConfig(lr=0.3, lr_schedule="constant"), [3.0, 1.0, 2.0]) == [0.3] * 3
    )


def test_labels_are_balanced_and_drawn_anew() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (balanced_labels(23, 5, generator) for _ in range(2))
    counts = torch.bincount(first, minlength=5)
    assert (int(counts.min()), int(counts.max())) == (4, 5)
    assert first.tolist() != second.tolist()
