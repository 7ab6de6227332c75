"""What `dfqonnx frontier` draws: students of one network, of uniform and of mixed widths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from dfqonnx.config.commands import RunConfig
from dfqonnx.config.search_limits import SearchLimits, SizeLimit, WidthSearch
from dfqonnx.errors import UsageError

MOST_POINTS = 24
FACTORS = (0.1, 0.25, 0.5, 0.75)  # of the way from a uniform size to the next one


@dataclass(frozen=True)
class FrontierConfig:
    """The run that every student is a variant of, and how the students come about.

    Attributes:
        run: model, target, data, recipe and output folder.
        points: mixed students between each two uniform ones.
        makes_students: whether they are made and measured, instead of foretold.
    """

    run: RunConfig
    points: int = len(FACTORS)
    makes_students: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.points <= MOST_POINTS:
            raise UsageError(f"--points {self.points}: expected 1 to {MOST_POINTS}")

    def sizes_between(self, small: int, large: int) -> list[int]:
        """Return the bytes of the mixed students between two uniform ones."""
        if self.points == len(FACTORS):
            shares = list(FACTORS)
        else:
            shares = [(k + 1) / (self.points + 1) for k in range(self.points)]
        return [int(small + share * (large - small)) for share in shares]

    def limited_to(self, size: int, out: Path) -> RunConfig:
        """Return the run of a mixed student of at most so many bytes."""
        search = self.run.search
        assert search is not None
        limits = SearchLimits(max_size=SizeLimit(str(size), bytes=size))
        return replace(self.run, search=WidthSearch(limits, search.nodes), out=out)
