"""Sums that a portrait is made from: energies of signal and noise, values counted on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dfqonnx.spec.portrait import Histogram, Occupancy

BINS, MARGIN = 64, 8  # over a full grid; beyond each of its ends
SAMPLE = 2**16 - 1  # values of one tensor that a histogram counts at a time


@dataclass
class Energy:
    """Sums of a signal and its noise."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, goal: Tensor, found: Tensor) -> None:
        """Take in what should be and what is."""
        self.signal += float(goal.square().sum(dtype=torch.float64))
        self.noise += float((goal - found).square().sum(dtype=torch.float64))

    @property
    def decibels(self) -> float | None:
        """The ratio; None without noise or signal."""
        if not (0 < self.noise < math.inf and 0 < self.signal < math.inf):
            return None
        return 10 * math.log10(self.signal / self.noise)


@dataclass
class Tally:
    """Values on a grid from `lo` to `hi`, in steps, counted."""

    lo: int
    hi: int
    bits: int
    seen: int = 0
    outside: int = 0
    counts: Tensor | None = None  # below, the bins, above

    def add(self, in_steps: Tensor) -> None:
        """Take in values that were divided by their step."""
        values = in_steps.detach().float().flatten()
        self.seen += len(values)
        self.outside += int(((values < self.lo - 0.5) | (values > self.hi + 0.5)).sum())
        stride = -(-len(values) // SAMPLE)
        found = _count(values[::stride], self)
        self.counts = found if self.counts is None else self.counts + found

    @property
    def width(self) -> float:
        """Of a bin, in steps."""
        return 2.0**self.bits / BINS

    @property
    def first(self) -> float:
        """Left edge of the first bin."""
        return self.lo - 0.5 - MARGIN * self.width

    @property
    def bins(self) -> int:
        """How many there are."""
        return math.ceil((self.hi - self.lo + 1) / self.width) + 2 * MARGIN

    def occupancy(self, scale: float) -> Occupancy:
        """Return what was counted, on a grid of that step."""
        counts = [0] * (self.bins + 2) if self.counts is None else self.counts.tolist()
        inside = tuple(counts[1:-1])
        histogram = Histogram(self.first, self.width, inside, counts[0], counts[-1])
        return Occupancy(self.lo, self.hi, scale, self.outside / max(1, self.seen), histogram)


def _count(values: Tensor, tally: Tally) -> Tensor:
    """Return how many values lie below, in each bin, and above."""
    places = ((values - tally.first) / tally.width).floor().clamp(-1, tally.bins) + 1
    return torch.bincount(places.long(), minlength=tally.bins + 2)


def histogram(values: Tensor, lo: int, hi: int, bits: int) -> Histogram:
    """Count `values`, in steps, over a grid from `lo` to `hi` and a margin on both sides."""
    tally = Tally(lo, hi, bits)
    tally.add(values)
    return tally.occupancy(1.0).histogram


def sqnr_db(goal: Tensor, found: Tensor) -> float | None:
    """Return the signal to quantization noise ratio in decibels; None without noise or signal."""
    energy = Energy()
    energy.add(goal, found)
    return energy.decibels
