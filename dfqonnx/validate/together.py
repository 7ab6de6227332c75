"""How many images pass a network at once, so that what stands between its nodes fits into memory.

Networks widen what they read: among those at hand a value holds up to 32 times the numbers of the
input (an audio network's first Conv), and two such values are alive at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDENING = 64  # float32 numbers alive at once for each number of the input
MEMORY = 2**28  # bytes for them
MOST = 64


def images_together(shape: Sequence[int], most: int = MOST) -> int:
    """Return how many images of `shape`, without the batch axis, to run at once: 1 to `most`."""
    each = 4 * WIDENING * max(1, math.prod(shape))
    return max(1, min(most, MEMORY // each))
