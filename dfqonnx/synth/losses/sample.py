"""`batchnorm-sample`: every image by itself is to have the training data's channel statistics.

    1/B sum over images n, layers l, channels c  (m_nlc - m_lc)^2 + (s_nlc - s_lc)^2

with the mean m_n and the deviation s_n = sqrt(v_n + 1e-6) over the places of one image, s alike;
the normalised input counts as one more layer, of mean 0 and deviation 1.

Source: Cai et al., "ZeroQ", CVPR 2020.
"""

from __future__ import annotations

from torch import Tensor

from dfqonnx.synth.objective import Seen, image_loss

LEAST = 1e-6


@image_loss("batchnorm-sample", needs=("statistics",))
def batchnorm_sample(seen: Seen) -> Tensor:
    """Return the squared distances of every image's statistics, summed, mean over images."""
    loss = _distance(seen.images, seen.images.new_zeros(()), seen.images.new_ones(()))
    for name, mean in seen.targets.mean.items():
        if name in seen.taps and seen.taps[name].dim() > 2:
            deviation = (seen.targets.variance[name] + LEAST).sqrt()
            loss = loss + _distance(seen.taps[name], mean, deviation)
    return loss


def _distance(value: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the mean over images of the distance of a value (B, C, ...), summed over channels."""
    places = value.flatten(2)  # (B, C, P)
    own_mean = places.mean(2)  # (B, C)
    own = (places.var(2, correction=0) + LEAST).sqrt()
    total = (own_mean - mean).square() + (own - deviation).square()
    return total.sum() / len(value)
