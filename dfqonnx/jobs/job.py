"""Jobs that an engine runs, and what it tells of them.

A job is a function of the caller's, its payload, and what it takes of a machine. An engine knows
nothing of models: it calls `work(payload, tell)`, on this machine or on another, and hands events
to `on_event` as they come. `work` returns for every failure that it knows of; what it does not
return from is a lost worker, and the engine begins the job again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

State = Literal["started", "at", "ended", "lost", "cancelled"]
Tell = Callable[[str], None]  # which stage a job has come to
Work = Callable[[Any, Tell], Any]


@dataclass(frozen=True, kw_only=True)
class JobResources:
    """What a job takes of one machine: cores, bytes of memory (0: not known), share of a GPU."""

    cores: float = 1.0
    memory_bytes: int = 0
    gpus: float = 0.0

    def __str__(self) -> str:
        """Return the resources in words."""
        words = [f"{self.cores:g} cores" if self.cores != 1 else "1 core"]
        words += [f"{self.memory_bytes / 2**30:.1f} GiB"] if self.memory_bytes else []
        words += [f"{self.gpus:g} GPUs"] if self.gpus else []
        return ", ".join(words)


@dataclass(frozen=True)
class Job:
    """One piece of work under a unique name."""

    name: str
    payload: Any
    resources: JobResources = JobResources()


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Something that happened to a job.

    Attributes:
        text: the stage that it came to, or why it was lost.
        result: what `work` returned, of a job that ended.
        attempt: how often it was begun so far.
        where: machine and process.
    """

    name: str
    state: State
    text: str = ""
    result: Any = None
    attempt: int = 1
    where: str = ""


OnEvent = Callable[[JobEvent], None]


class Engine(Protocol):
    """Runs jobs; `describe` says on what, once it runs.

    Attributes:
        places_jobs: whether it asks what a job takes of a machine.
    """

    @property
    def places_jobs(self) -> bool: ...  # noqa: D102

    def run(
        self, jobs: Sequence[Job], work: Work, *, on_event: OnEvent, note: Callable[[str], None]
    ) -> None:
        """Run all jobs; an interruption cancels those that are left, and is raised again."""

    def describe(self) -> str:
        """Return in words what the jobs run on."""
