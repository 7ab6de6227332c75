"""What both models make of the first few inputs, kept so that a report can draw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.heads.detections import Detections

SHOWN_INPUTS = 4

Shown = Detections | NDArray[Any]  # boxes, a mask (H, W), or a picture uint8 (H, W, C)


@dataclass(frozen=True)
class SidePicture:
    """One input, and the results of the float model and of the student."""

    pixels: NDArray[np.uint8]  # (H, W, C)
    teacher: Shown
    student: Shown


@runtime_checkable
class ShowsResults(Protocol):
    """A tally whose results can be drawn."""

    def shown(self) -> tuple[list[Shown], list[Shown]]:
        """Return the results of both models on the first inputs, `SHOWN_INPUTS` at most."""
