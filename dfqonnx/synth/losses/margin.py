"""`margin`: LRQ's adversarial margin, against features that crowd around their class centre.

    theta_n = angle between feature f_n and centre w_y      y the class asked for
    loss    = (1/B) sum_n max(0, angle - theta_n)

f is what the last layer reads and w_y the row of that layer. The class loss pulls theta to 0; this
keeps it from going below `angle` (radians), which widens the spread within a class. LRQ's formula
was not found: this is the plain one that its abstract describes.

Source: "Long-Range Zero-Shot Generative Deep Network Quantization", Neural Networks 166, 2023.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from dfqonnx.synth.objective import Seen, image_loss

NEAREST = 1 - 1e-6  # of a cosine: the angle's slope is infinite at 1


@image_loss("margin", needs=("features", "centres", "labels"))
def margin(seen: Seen, *, angle: float = 0.3) -> Tensor:
    """Return the mean hinge on the angle."""
    assert seen.features is not None  # `needs` says so
    assert seen.centres is not None
    assert seen.labels is not None
    cosine = functional.cosine_similarity(seen.features, seen.centres[seen.labels], dim=1)
    return (angle - cosine.clamp(-NEAREST, NEAREST).acos()).clamp_min(0.0).mean()
