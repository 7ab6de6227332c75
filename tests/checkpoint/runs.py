"""Runs of a tiny network up to the exported file, and ways to interrupt them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dfqonnx.checkpoint.cache import CacheUse
from dfqonnx.core.progress import Progress

STEPS = 12
PLAIN = f"""
about: x
synthesis: {{source: dead-leaves, images: 48}}
distillation: {{steps: {STEPS}, batch_size: 16, mixup: 0.5, weight_averaging: 0.6}}
"""
Quantize = Callable[..., bytes]


class Interrupted(Exception):
    """Stands for a kill: nothing is saved on the way out."""


@dataclass
class Interrupting(Progress):
    """Interrupts when a stage starts, or after some of its steps; collects what is told."""

    stage: str = ""
    after: int = -1  # -1: at its start
    told: list[str] = field(default_factory=list)
    seen: list[tuple[str, int]] = field(default_factory=list)  # stages, and where each began

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        self.seen.append((stage, done))
        self.at, self.count = stage, 0
        if stage == self.stage and self.after < 0:
            raise Interrupted

    def advance(self, units: int = 1, **figures: float) -> None:
        self.count += units
        if self.at == self.stage and self.count == self.after:
            raise Interrupted

    def note(self, message: str) -> None:
        self.told.append(message)

    def warn(self, message: str) -> None:
        self.told.append(message)

    def begins(self, stage: str) -> list[int]:
        return [done for name, done in self.seen if name == stage]


class Exported(Exception):
    """The file is written: what comes behind only measures."""


WHOLE: dict[str, bytes] = {}  # what an uninterrupted run writes, by recipe: the same in all tests


def uninterrupted(quantize: Quantize, recipe: str) -> bytes:
    if recipe not in WHOLE:
        WHOLE[recipe] = quantize(recipe, use=CacheUse(enabled=False))
    return WHOLE[recipe]
