"""Losses on the teacher's classes.

p_n is the teacher's softmax of image n, y_n the class asked for, H the entropy.

    labels       mean KL( asked distribution || p_n )    the distribution may name two classes
    class        mean - log p_ny
    confidence   mean H(p_n)                             low: every image has one class
    balance      - H( mean p_n )                         low: all classes come equally often
    focal        mean - (1 - p_ny)^gamma log p_ny
    margin       mean max(0, angle - theta_n)            theta_n between feature f_n and center w_y

Confidence plus balance is the negative logarithm of the inception score; DFQF weights `balance` by
40, DFQ-AKD by 1. `focal` leaves an image alone that already has p_y near 1, so optimization ends
with images that are less certain than cross-entropy would make them: a quantized network errs on
those. In `margin` f is what the last layer reads and w_y the row of that layer. The class loss
pulls theta to 0; the margin keeps it from going below `angle` (radians), which widens the spread
within a class. LRQ's formula was not found: this is the plain one that its abstract describes.

Sources: Li et al., "DFQF", ACML 2020, and Choi et al., CVPR Workshops 2020 (confidence, balance);
Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization" (HAST), CVPR 2023 (focal; gamma = 2
on CIFAR, 0.5 on ImageNet); "Long-Range Zero-Shot Generative Deep Network Quantization", Neural
Networks 166, 2023 (margin).
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


NEAREST = 1 - 1e-6  # of a cosine: the angle's slope is infinite at 1


@image_loss("margin", needs=("features", "centers", "labels"))
def margin(inputs: ImageLossInputs, *, angle: float = 0.3) -> Tensor:
    """Return the mean hinge on the angle."""
    assert inputs.features is not None  # `needs` says so
    assert inputs.centers is not None
    assert inputs.labels is not None
    cosine = functional.cosine_similarity(inputs.features, inputs.centers[inputs.labels], dim=1)
    return (angle - cosine.clamp(-NEAREST, NEAREST).acos()).clamp_min(0.0).mean()
