"""The processes that share one run: each has a rank, and they add up and exchange what they find.

Without `torchrun` there is one, and nothing is exchanged. `workflows/process_group` has those of
torch.distributed. Every rank calls the same methods in the same order. Values are those of torch;
this room knows nothing of it.

Where a job fails, every rank notices, and one of them says so: `claims_message`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
SAME_ON_ALL = {2, 3}  # exit codes of what every rank finds before they meet: usage, the model
FAILURE_TELLERS: list[Callable[[], bool]] = []  # of the job that was joined: says who speaks


@dataclass(frozen=True)
class RankPlace:
    """Where a process stands in its job, and among those on its machine."""

    rank: int
    count: int
    local_rank: int
    local_count: int


def read_place(environment: Mapping[str, str] = os.environ) -> RankPlace | None:
    """Return the place that `torchrun` gave this process; None where it is alone."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    given = [environment.get(name, "") for name in names]
    if not all(text.isascii() and text.isdigit() for text in given) or int(given[1]) < 2:
        return None
    return RankPlace(*map(int, given))


def claims_message(exit_code: int) -> bool:
    """Claim to tell of a failure; only one rank of a job may, where several have it to tell."""
    place = read_place()
    if place is None:
        return True
    if FAILURE_TELLERS:
        return FAILURE_TELLERS[-1]()
    return place.local_rank == 0 or exit_code not in SAME_ON_ALL


class Ranks(Protocol):
    """What a stage may ask of the processes that share a run."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    def count(self) -> int:
        """How many processes there are."""

    @property
    def neighbors(self) -> int:
        """How many of them are on this machine, this one included."""

    def add_up(self, tensors: Sequence[Any]) -> None:
        """Replace tensors, the same shapes on every rank, by their sums over all ranks.

        Raises:
            EnvironmentProblem: another process has ended.
        """

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks in their order; raises what `add_up` does."""

    def agree(self, value: T) -> T:
        """Return the value of rank 0; raises what `add_up` does."""


class SingleRank(Ranks):
    """The only process of a run."""

    rank, count, neighbors = 0, 1, 1

    def add_up(self, tensors: Sequence[Any]) -> None:
        """Leave the tensors: they are their sums."""

    def gather(self, value: T) -> list[T]:
        """Return the only value."""
        return [value]

    def agree(self, value: T) -> T:
        """Return the value."""
        return value
