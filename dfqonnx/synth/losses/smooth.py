"""`smooth`: total variation (Rudin, Osher and Fatemi 1992)."""

from __future__ import annotations

from torch import Tensor

from dfqonnx.synth.objective import Seen, image_loss
from dfqonnx.synth.objectives import total_variation


@image_loss("smooth")
def smooth(seen: Seen) -> Tensor:
    """Return the mean absolute difference of neighbours, down plus across."""
    return total_variation(seen.images)
