"""The points of `dfqonnx frontier`: drop over bytes and speed, and which one to take."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from dfqonnx.core.bit_choice import StudentForecast

SCHEMA = "dfqonnx.frontier/1"
GOOD_DROP = 0.5  # points: of students that lose no more the smallest is proposed
GOOD_NOISE = 10**-2.5  # the same of outputs without classes, 25 dB


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """One student, foretold or made.

    Attributes:
        forecast: what is expected of it before training.
        is_mixed: whether its widths were looked for.
        widths: how many layers have which, in words.
        command: the command that makes it.
        estimated_drop: of the student that was made, in points, without labels.
        measured: the drop in points, or what the task's measure lost, on labeled data.
        measure: the name of that measure; empty where nothing was measured.
    """

    forecast: StudentForecast
    is_mixed: bool
    widths: str
    command: str
    estimated_drop: float | None = None
    measured: float | None = None
    measure: str = ""

    @property
    def loss(self) -> float:
        """What is best known of how much it loses, for comparing points of one frontier."""
        known = (self.measured, self.estimated_drop, self.forecast.drop)
        return next((value for value in known if value is not None), self.forecast.noise)

    def beats(self, other: FrontierPoint) -> bool:
        """Whether it takes no more bytes and loses less."""
        return self.forecast.bytes <= other.forecast.bytes and self.loss < other.loss


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """All points, from the smallest to the largest file."""

    model: str
    target: str
    bytes: int  # of the float file
    points: tuple[FrontierPoint, ...]
    unit: str  # of a point's loss
    images: int  # synthetic ones that noise was measured on

    @property
    def has_drops(self) -> bool:
        """Whether losses are points of top-1, or of a task's measure."""
        return any(p.measured is not None or p.forecast.drop is not None for p in self.points)

    @property
    def best(self) -> tuple[FrontierPoint, ...]:
        """The points that no other one beats both in bytes and in loss."""
        return tuple(
            point for point in self.points if not any(other.beats(point) for other in self.points)
        )

    @property
    def proposed(self) -> FrontierPoint:
        """The smallest student that loses little; the one that loses least where none does."""
        most = GOOD_DROP if self.has_drops else GOOD_NOISE
        good = [point for point in self.points if point.loss <= most]
        if good:
            return min(good, key=lambda point: point.forecast.bytes)
        return min(self.points, key=lambda point: point.loss)

    def to_json(self) -> str:
        """Return the text of `frontier.json`."""
        content: dict[str, Any] = {"schema": SCHEMA, **dataclasses.asdict(self)}
        content["proposed"] = self.points.index(self.proposed)
        content["best"] = [self.points.index(point) for point in self.best]
        return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
