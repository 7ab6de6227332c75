"""Losses on the teacher's classes.

p_n is the teacher's softmax of image n, y_n the class asked for, H the entropy.

    labels       mean KL( asked distribution || p_n )    the distribution may name two classes
    class        mean - log p_ny
    confidence   mean H(p_n)                             low: every image has one class
    balance      - H( mean p_n )                         low: all classes come equally often
    focal        mean - (1 - p_ny)^gamma log p_ny
    logit        exp(- scale mean z_ny)                  z_n the logits: weakens as they grow

Confidence plus balance is the negative logarithm of the inception score; DFQF weights `balance` by
40, DFQ-AKD by 1. `focal` leaves an image alone that already has p_y near 1, so optimization ends
with images that are less certain than cross-entropy would make them: a quantized network errs on
those. `logit` goes on pushing where cross-entropy, at p_y near 1, has stopped.

Sources: Li et al., "DFQF", ACML 2020, and Choi et al., CVPR Workshops 2020 (confidence, balance);
Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization" (HAST), CVPR 2023 (focal; gamma = 2
on CIFAR, 0.5 on ImageNet); Haroush et al., "The Knowledge Within", CVPR 2020, and its authors' code
amishacorns/quantized.pytorch (logit).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss


@image_loss("labels", needs=("soft",))
def labels(inputs: ImageLossInputs) -> Tensor:
    """Return mean KL(labels || teacher)."""
    assert inputs.soft is not None  # `needs` says so
    log_p = functional.log_softmax(inputs.logits, 1)
    return functional.kl_div(log_p, inputs.soft, reduction="batchmean")


@image_loss("class", needs=("labels",))
def class_(inputs: ImageLossInputs) -> Tensor:
    """Return the mean cross-entropy."""
    assert inputs.labels is not None  # `needs` says so
    return functional.cross_entropy(inputs.logits, inputs.labels)


@image_loss("confidence", needs=("classes",))
def confidence(inputs: ImageLossInputs) -> Tensor:
    """Return the mean entropy of the teacher's answers."""
    return -(inputs.logits.softmax(1) * inputs.logits.log_softmax(1)).sum(1).mean()


@image_loss("balance", needs=("classes",))
def balance(inputs: ImageLossInputs) -> Tensor:
    """Return the negative entropy of the teacher's mean answer."""
    mean = inputs.logits.softmax(1).mean(0)  # (K,)
    return torch.xlogy(mean, mean.clamp_min(1e-12)).sum()


@image_loss("focal", needs=("labels",))
def focal(inputs: ImageLossInputs, *, gamma: float = 2.0) -> Tensor:
    """Return the mean cross-entropy, each image's times (1 - p_y)^gamma."""
    assert inputs.labels is not None  # `needs` says so
    entropy = functional.cross_entropy(inputs.logits, inputs.labels, reduction="none")  # (B,)
    return ((1.0 - (-entropy).exp()).pow(gamma) * entropy).mean()


@image_loss("logit", needs=("labels",))
def logit(inputs: ImageLossInputs, *, scale: float = 0.0004) -> Tensor:
    """Return exp of minus the scaled mean logit of the class asked for."""
    assert inputs.labels is not None  # `needs` says so
    return (-scale * inputs.logits.gather(1, inputs.labels[:, None]).mean()).exp()
