"""How fast this machine is, relative to the one that the cost model was fitted on.

A network that does what most networks spend their time with passes a batch: Conv of 3x3, which is
arithmetic, and sums of large values, which move memory. Its seconds there are in the fitted
constants (`core/cost_constants.json`), beside those of everything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from dfqonnx.core.cost_model import CONSTANTS

REPEATS = 5
CHANNELS, SIZE, BATCH = 32, 32, 16  # of the values that pass


@torch.no_grad()
def time_reference_work(clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of one round of the reference's work, the shortest of some."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator) / 17
    x = torch.randn(BATCH, CHANNELS, SIZE, SIZE, generator=generator)
    weight, x = (value.contiguous(memory_format=torch.channels_last) for value in (weight, x))
    found = []
    for _ in range(REPEATS):
        began, value = clock(), x
        for _ in range(4):
            value = functional.relu(functional.conv2d(value, weight, padding=1) + x)
        value.sum().item()
        found.append(clock() - began)
    return max(min(found), 1e-6)


def measure_speed(clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the speed of this machine; 1 is that of the machine that was fitted on."""
    return CONSTANTS.reference_seconds / time_reference_work(clock)
