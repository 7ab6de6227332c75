"""The processes that `torchrun` starts for one run, through torch.distributed.

    torchrun --nproc-per-node 2 -m dfqonnx run MODEL.onnx --bits 4

Tensors are added up by gloo on processors and by NCCL on GPUs; objects travel by gloo. A process
that is killed closes its connections, which the others notice in their next exchange; `TIMEOUT` is
for one that hangs. The first process that has something to say about a failure says it, which the
store of the job decides, and the others end quietly (`core/ranks.claims_message`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from dfqonnx.core.ranks import (
    FAILURE_TELLERS,
    RankPlace,
    Ranks,
    SingleRank,
    read_place,
)
from dfqonnx.errors import EnvironmentProblem

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # of an exchange; between two of them lies a stage at most
TOLD = "dfqonnx/told"  # the key of the store that counts messages


class ProcessGroup:
    """The processes of a job, of which this is one."""

    def __init__(self, place: RankPlace, *, on_gpus: bool) -> None:
        self.rank, self.count, self.neighbors = place.rank, place.count, place.local_count
        backend = "nccl" if on_gpus else "gloo"
        try:
            if on_gpus:
                torch.cuda.set_device(place.local_rank)
            store, rank, count = next(rendezvous("env://", timeout=TIMEOUT))
            distributed.init_process_group(
                backend, store=store, rank=rank, world_size=count, timeout=TIMEOUT
            )
        except (RuntimeError, ValueError) as error:
            raise EnvironmentProblem(
                f"process {place.rank} of {place.count} cannot join the others with {backend}"
                f" ({_first_line(error)}); start the job with torchrun, one process a GPU"
            ) from None
        self._objects = distributed.new_group(backend="gloo", timeout=TIMEOUT)
        FAILURE_TELLERS.append(lambda: int(store.add(TOLD, 1)) == 1)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all ranks, in one exchange for each kind of number."""
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault(tensor.dtype, []).append(tensor)
        for each in kinds.values():
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in each])
            with _explained(self):
                distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in each])
            for tensor, part in zip(each, parts, strict=True):
                tensor.detach().copy_(part.view(tensor.shape))

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks in their order."""
        found: list[T | None] = [None] * self.count
        with _explained(self):
            distributed.all_gather_object(found, value, group=self._objects)
        return [each for each in found if each is not None]

    def agree(self, value: T) -> T:
        """Return the value of rank 0."""
        found: list[T] = [value]
        with _explained(self):
            distributed.broadcast_object_list(found, src=0, group=self._objects)
        return found[0]


@contextmanager
def _explained(group: ProcessGroup) -> Iterator[None]:
    """Turn what is raised where another process does not answer into a message."""
    try:
        yield
    except (RuntimeError, distributed.DistError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise EnvironmentProblem(
            f"process {group.rank} of {group.count}: another process of this job has ended or does"
            f" not answer ({_first_line(error)}). No partial result is left, and the same command"
            " starts the job again"
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    said = lines[0].rpartition("] ")[2] if lines[0].startswith("[") else lines[0]
    return said.partition(". ")[0][:200]


@contextmanager
def open_ranks(*, on_gpus: bool) -> Iterator[Ranks]:
    """Join the other processes of a `torchrun` job; without one, this process is all there is.

    Raises:
        EnvironmentProblem: they cannot be reached.
    """
    place = read_place()
    if place is None:
        yield SingleRank()
        return
    if distributed.is_initialized():
        raise EnvironmentProblem("this process has joined a process group already; run one job")
    yield ProcessGroup(place, on_gpus=on_gpus)
    distributed.destroy_process_group()
    FAILURE_TELLERS.clear()
