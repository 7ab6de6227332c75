"""`focal`: images that the teacher finds hard count for more.

    mean -(1 - p_y)^gamma log p_y

p_y is what the teacher gives the class y asked for. An image that already has p_y near 1 is left
alone, so optimisation ends with images that are less certain than cross-entropy would make them:
those are where a quantized network errs.

Source: hard-sample synthesis of Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization"
(HAST), CVPR 2023; gamma = 2 on CIFAR, 0.5 on ImageNet.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from dfqonnx.synth.objective import Seen, image_loss


@image_loss("focal", needs=("labels",))
def focal(seen: Seen, *, gamma: float = 2.0) -> Tensor:
    """Return the mean cross-entropy, each image's times (1 - p_y)^gamma."""
    assert seen.labels is not None  # `needs` says so
    entropy = functional.cross_entropy(seen.logits, seen.labels, reduction="none")  # (B,)
    return ((1.0 - (-entropy).exp()).pow(gamma) * entropy).mean()
