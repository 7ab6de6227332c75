"""What a batch is asked to be.

labels   mean KL( asked distribution || teacher )      it may name two classes
class    mean - log softmax(teacher)_y                 y the class asked for

Confidence and balance: what makes images belong to classes, without asking for one.

    confidence   (1/B) sum_n H(p_n)            low: every image has one class
    balance      - H( (1/B) sum_n p_n )        low: all classes come equally often

p_n is the teacher's softmax, H the entropy. Their sum is the negative logarithm of the inception
score; DFQF weights `balance` by 40, DFQ-AKD by 1.

Sources: Li et al., "DFQF", ACML 2020; Choi et al., CVPR Workshops 2020.

`focal`: images that the teacher finds hard count for more.

    mean -(1 - p_y)^gamma log p_y

p_y is what the teacher gives the class y asked for. An image that already has p_y near 1 is left
alone, so optimization ends with images that are less certain than cross-entropy would make them:
those are where a quantized network errs.

Source: hard-sample synthesis of Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization"
(HAST), CVPR 2023; gamma = 2 on CIFAR, 0.5 on ImageNet.

`margin`: LRQ's adversarial margin, against features that crowd around their class center.

    theta_n = angle between feature f_n and center w_y      y the class asked for
    loss    = (1/B) sum_n max(0, angle - theta_n)

f is what the last layer reads and w_y the row of that layer. The class loss pulls theta to 0; this
keeps it from going below `angle` (radians), which widens the spread within a class. LRQ's formula
was not found: this is the plain one that its abstract describes.

Source: "Long-Range Zero-Shot Generative Deep Network Quantization", Neural Networks 166, 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.labels import class_loss
from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss


@image_loss("labels", needs=("soft",))
def labels(seen: ImageLossInputs) -> Tensor:
    """Return mean KL(labels || teacher)."""
    assert seen.soft is not None  # `needs` says so
    return class_loss(seen.logits, seen.soft)


@image_loss("class", needs=("labels",))
def class_(seen: ImageLossInputs) -> Tensor:
    """Return the mean cross-entropy."""
    assert seen.labels is not None  # `needs` says so
    return functional.cross_entropy(seen.logits, seen.labels)


@image_loss("confidence", needs=("classes",))
def confidence(seen: ImageLossInputs) -> Tensor:
    """Return the mean entropy of the teacher's answers."""
    return -(seen.logits.softmax(1) * seen.logits.log_softmax(1)).sum(1).mean()


@image_loss("balance", needs=("classes",))
def balance(seen: ImageLossInputs) -> Tensor:
    """Return the negative entropy of the teacher's mean answer."""
    mean = seen.logits.softmax(1).mean(0)  # (K,)
    return torch.xlogy(mean, mean.clamp_min(1e-12)).sum()


@image_loss("focal", needs=("labels",))
def focal(seen: ImageLossInputs, *, gamma: float = 2.0) -> Tensor:
    """Return the mean cross-entropy, each image's times (1 - p_y)^gamma."""
    assert seen.labels is not None  # `needs` says so
    entropy = functional.cross_entropy(seen.logits, seen.labels, reduction="none")  # (B,)
    return ((1.0 - (-entropy).exp()).pow(gamma) * entropy).mean()


NEAREST = 1 - 1e-6  # of a cosine: the angle's slope is infinite at 1


@image_loss("margin", needs=("features", "centers", "labels"))
def margin(seen: ImageLossInputs, *, angle: float = 0.3) -> Tensor:
    """Return the mean hinge on the angle."""
    assert seen.features is not None  # `needs` says so
    assert seen.centers is not None
    assert seen.labels is not None
    cosine = functional.cosine_similarity(seen.features, seen.centers[seen.labels], dim=1)
    return (angle - cosine.clamp(-NEAREST, NEAREST).acos()).clamp_min(0.0).mean()
