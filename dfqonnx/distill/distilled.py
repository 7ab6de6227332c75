"""What distillation did, for reports and for everything behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dfqonnx.distill.agreement import Agreement
from dfqonnx.distill.state import LogEntry


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """What distillation did; the student itself was trained in place."""

    steps: int
    seconds: float  # wall clock, initialization included
    agreement_before: Agreement  # held-out, after initialization
    agreement_after: Agreement  # held-out, of the student as it was left
    kept: bool  # whether the trained parameters were kept
    reason: str  # why they were not; empty otherwise
    history: tuple[LogEntry, ...]
    untrained: Mapping[str, Tensor]  # see `Student.save_state`; empty where nothing was trained
    images_seen: int  # drawn for all steps
    held_out: tuple[int, ...]  # places of the images that were not trained on, among those given
    left_out: int = 0  # steps that the student was to be trained, where training was not asked for
