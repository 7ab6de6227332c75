"""What a batch is asked to be.

labels   mean KL( asked distribution || teacher )      it may name two classes
class    mean - log softmax(teacher)_y                 y the class asked for
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from dfqonnx.synth.objective import Seen, image_loss
from dfqonnx.synth.objectives import class_loss


@image_loss("labels", needs=("soft",))
def labels(seen: Seen) -> Tensor:
    """Return mean KL(labels || teacher)."""
    assert seen.soft is not None  # `needs` says so
    return class_loss(seen.logits, seen.soft)


@image_loss("class", needs=("labels",))
def class_(seen: Seen) -> Tensor:
    """Return the mean cross-entropy."""
    assert seen.labels is not None  # `needs` says so
    return functional.cross_entropy(seen.logits, seen.labels)
