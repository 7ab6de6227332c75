"""How a learning rate falls over a training: its factor at a fraction done."""

from __future__ import annotations

import math
from collections.abc import Sequence


def fallen(done: float, fall: str, milestones: Sequence[float] = ()) -> float:
    """Return the rate over its first.

    Args:
        done: fraction of the training that is over, 0..1.
        fall: `cosine` to 0, `steps` to a tenth at each milestone; anything else is constant.
        milestones: as fractions.
    """
    if fall == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, done))))
    if fall == "steps":
        return float(0.1 ** sum(done >= milestone for milestone in milestones))
    return 1.0
