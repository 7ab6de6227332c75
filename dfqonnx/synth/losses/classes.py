"""`labels`: cross-entropy to the distributions asked for, less their entropy."""

from __future__ import annotations

from torch import Tensor

from dfqonnx.synth.objective import Seen, image_loss
from dfqonnx.synth.objectives import class_loss


@image_loss("labels", needs=("soft",))
def labels(seen: Seen) -> Tensor:
    """Return mean KL(labels || teacher)."""
    assert seen.soft is not None  # `needs` says so
    return class_loss(seen.logits, seen.soft)
