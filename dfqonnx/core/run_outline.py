"""What a run would do, told before it is done: stages with their time, memory, images, rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

STAGES = {  # as progress names them -> in words
    "synthesize": "make images",
    "initialize": "set ranges",
    "distill": "train",
    "export": "write the file",
    "evaluate": "measure",
}
OTHER_TARGETS = "other targets"  # a stage for all of them


@dataclass(frozen=True, kw_only=True)
class StageOutline:
    """One stage: its name as in reports, what it does, and about how many seconds it takes.

    `is_certain` is False of a stage that the run may turn out not to need.
    """

    name: str
    seconds: float
    about: str = ""
    is_certain: bool = True


@dataclass(frozen=True, kw_only=True)
class GateOutline:
    """Whether a rule can be decided by what the run will know; `why` says so either way."""

    rule: str
    can_be_decided: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class RunOutline:
    """What a run would do; times and memory are estimates.

    Attributes:
        stages: in their order, those that do nothing left out.
        images: synthetic ones.
        memory_mib: the most that the process will hold.
        files: what is written, without the folder.
        gates: every rule of the user.
        seconds_known: whether the stages' times were estimated for this model.
    """

    stages: tuple[StageOutline, ...]
    images: int
    memory_mib: float
    files: tuple[str, ...]
    gates: tuple[GateOutline, ...] = ()
    seconds_known: bool = True

    @property
    def seconds(self) -> float:
        """The whole time, of the stages that are certain."""
        return sum(stage.seconds for stage in self.stages if stage.is_certain)

    @property
    def most_seconds(self) -> float:
        """The whole time where every stage is needed."""
        return sum(stage.seconds for stage in self.stages)

    def for_targets(self, count: int) -> Self:
        """Return the outline of a run that makes images once and all else for each target."""
        stages = (
            stage if stage.name == "synthesize" else replace(stage, seconds=count * stage.seconds)
            for stage in self.stages
        )
        return replace(self, stages=tuple(stages))

    def remaining(self, left: Mapping[str, float]) -> Self:
        """Return the outline of which only the share `left` of some stages is to be done."""
        stages = (
            replace(stage, seconds=left.get(stage.name, 1.0) * stage.seconds)
            for stage in self.stages
        )
        return replace(self, stages=tuple(stages))

    def expected(self, left: int, *, of: int) -> dict[str, float]:
        """Return the seconds of the stages to come where `left` of so many targets are not begun.

        What all but the first of these take stands last, as one stage.
        """
        stages = {each.name: each.seconds for each in self.stages if each.is_certain}
        images = stages.pop("synthesize", 0.0)
        others = (left - 1) * sum(stages.values())
        first = {"synthesize": images} if left == of else {}
        return {**first, **stages, **({OTHER_TARGETS: others} if others else {})}

    def describe_time(self) -> str:
        """Return the whole time in words, with and without what may not be needed."""
        told = describe_seconds(self.seconds)
        most = describe_seconds(self.most_seconds)
        return told if most == told else f"{told}, or {most} if ranges alone do not suffice"

    def __str__(self) -> str:
        """Return the lines that the command line prints."""
        return "\n".join(_lines(self))


def describe_seconds(seconds: float) -> str:
    """Return a time as people say it.

    >>> [describe_seconds(s) for s in (3, 44, 100, 700, 9000)]
    ['3 s', '45 s', '2 min', '12 min', '2.5 h']
    """
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe_together(outlines: Sequence[RunOutline]) -> str:
    """Return the time and the memory of one run for several targets, in a line."""
    stages = tuple(stage for outline in outlines for stage in outline.stages)
    memory = max(outline.memory_mib for outline in outlines)
    whole = replace(outlines[0], stages=stages, memory_mib=memory)
    known = all(outline.seconds_known for outline in outlines)
    time = f"about {whole.describe_time()}, on this machine" if known else "not known"
    return f"All {len(outlines)} targets: time {time}; memory about {memory:,.0f} MiB."


def _lines(outline: RunOutline) -> Iterator[str]:
    total = f"about {outline.describe_time()}, on this machine"
    yield f"time         {total if outline.seconds_known else 'see the cost of the recipe'}"
    for stage in outline.stages:
        about = f"  {stage.about}" if stage.about else ""
        words = STAGES.get(stage.name, stage.name)
        seconds = describe_seconds(stage.seconds) if outline.seconds_known else ""
        yield f"  {stage.name:<11}{words:<16}{seconds:>7}{about}"
    yield f"images       {outline.images:,} synthetic ones"
    yield f"memory       about {outline.memory_mib:,.0f} MiB"
    yield f"files        {', '.join(outline.files)}"
    for gate in outline.gates:
        mark = "can be decided" if gate.can_be_decided else "CANNOT be decided"
        yield f"gate         {gate.rule}: {mark}; {gate.why}"
