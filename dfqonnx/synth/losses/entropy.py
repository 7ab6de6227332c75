"""Confidence and balance: what makes images belong to classes, without asking for one.

    confidence   (1/B) sum_n H(p_n)            low: every image has one class
    balance      - H( (1/B) sum_n p_n )        low: all classes come equally often

p_n is the teacher's softmax, H the entropy. Their sum is the negative logarithm of the inception
score; DFQF weights `balance` by 40, DFQ-AKD by 1.

Sources: Li et al., "DFQF", ACML 2020; Choi et al., CVPR Workshops 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.synth.objective import Seen, image_loss


@image_loss("confidence", needs=("classes",))
def confidence(seen: Seen) -> Tensor:
    """Return the mean entropy of the teacher's answers."""
    return -(seen.logits.softmax(1) * seen.logits.log_softmax(1)).sum(1).mean()


@image_loss("balance", needs=("classes",))
def balance(seen: Seen) -> Tensor:
    """Return the negative entropy of the teacher's mean answer."""
    mean = seen.logits.softmax(1).mean(0)  # (K,)
    return torch.xlogy(mean, mean.clamp_min(1e-12)).sum()
