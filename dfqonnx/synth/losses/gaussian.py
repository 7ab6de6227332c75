"""`batchnorm-kl`: the mean Gaussian divergence of `synth/statistics`, KL(images || data)."""

from __future__ import annotations

from torch import Tensor

from dfqonnx.synth.objective import Seen, image_loss


@image_loss("batchnorm-kl", needs=("statistics",))
def batchnorm_kl(seen: Seen) -> Tensor:
    """Return KL(images || training data), mean over channels, then over layers."""
    return seen.targets.loss(seen.taps)
