"""Ranks of one job as threads, for tests of what they compute together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class RankThread:
    """A rank whose exchanges wait for the other threads of its job."""

    def __init__(self, rank: int, slots: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.count, self.neighbors = rank, len(slots), len(slots)
        self._slots, self._barrier = slots, barrier

    def gather(self, value: T) -> list[T]:
        self._slots[self.rank] = value
        self._barrier.wait()
        found = list(self._slots)
        self._barrier.wait()
        return found

    def agree(self, value: T) -> T:
        return self.gather(value)[0]

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        found = self.gather([tensor.detach().clone() for tensor in tensors])
        for own, *parts in zip(tensors, *found, strict=True):
            own.detach().copy_(torch.stack(parts).sum(0))


def rank_threads(count: int) -> list[RankThread]:
    """The ranks of a job; each is to be used in a thread of its own, within a minute."""
    slots: list[Any] = [None] * count
    barrier = threading.Barrier(count, timeout=60)
    return [RankThread(rank, slots, barrier) for rank in range(count)]
