"""`batchnorm-norm`: Euclidean distances, |m' - m|_2 + |v' - v|_2 over channels, sum over layers.

m', v' are mean and variance of a channel on the batch, m and v on the training data; measured
behind BatchNormalization, where the folded graph still has the value. Not squared: a layer that is
far off pulls no harder than its share.

Source: Yin et al., "Dreaming to Distill" (DeepInversion), CVPR 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.synth.objective import Seen, image_loss
from dfqonnx.synth.statistics import moments


@image_loss("batchnorm-norm", needs=("statistics",))
def batchnorm_norm(seen: Seen) -> Tensor:
    """Return the distances of means and of variances, summed over layers."""
    targets, found = seen.targets, []
    for name, known in targets.mean.items():
        if name in seen.taps:
            mean, variance = moments(seen.taps[name])
            found.append((mean - known).norm() + (variance - targets.variance[name]).norm())
    return torch.stack(found).sum()
