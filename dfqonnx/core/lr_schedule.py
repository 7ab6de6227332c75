"""Learning-rate schedules: the rate over its peak at a fraction done.

    warmup      done / warmup, while done < warmup
    cosine      r + (1 - r) (1 + cos(pi t)) / 2,  t = (done - warmup) / (1 - warmup),  r = min_ratio
    steps       0.1 for every milestone that is behind
    constant    1

The cosine is that of Loshchilov and Hutter, "SGDR" (ICLR 2017), without restarts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def lr_factor(
    done: float,
    schedule: str,
    *,
    milestones: Sequence[float] = (),
    warmup: float = 0.0,
    min_ratio: float = 0.0,
) -> float:
    """Return the learning rate over its peak at a fraction done, which is clamped to 0..1.

    The warmup applies to every schedule; one of an unknown name is constant.
    """
    done = min(max(done, 0.0), 1.0)
    if done < warmup:
        return done / warmup
    if schedule == "cosine":
        fallen = (done - warmup) / max(1.0 - warmup, 1e-9)
        return min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + math.cos(math.pi * fallen))
    if schedule == "steps":
        return float(0.1 ** sum(done >= milestone for milestone in milestones))
    return 1.0
