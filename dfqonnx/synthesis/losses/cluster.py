"""`cluster`: the statistics of deep layers per class, pulled to that class's centroid.

With m', s' mean and deviation of a layer over the batch's images of class c that the teacher gets
right, and (m, s) the class's centroid in that layer:

    loss = sum over deep layers and classes of  |m' - (m + e)|^2 + |s' - s|^2
    e ~ N(0, (noise s)^2);  m <- (1 - rate) m + rate m',  s likewise, after every batch

A centroid begins as the first (m', s') seen. e, drawn anew each time, keeps a cluster from
collapsing to a point. `deep` is the share of layers that count, from the last; `after` is the
number of batches that pass before any does. Layers, rate and the form of the noise were not found:
these are ours.

Source: "ClusterQ: Semantic Feature Distribution Alignment for Data-Free Quantization",
arXiv 2205.00179.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss

LEAST = 1e-8


@image_loss("cluster", needs=("statistics", "classes", "labels"))
class Cluster:
    """The loss with its centroids, by layer."""

    def __init__(self) -> None:
        self.mean: dict[str, Tensor] = {}  # (K, C)
        self.deviation: dict[str, Tensor] = {}  # (K, C)
        self.known: dict[str, Tensor] = {}  # (K, 1), whether the class has a centroid
        self._batches = 0

    def __call__(
        self,
        inputs: ImageLossInputs,
        *,
        rate: float = 0.1,
        noise: float = 0.2,
        deep: float = 0.34,
        after: float = 0.0,
    ) -> Tensor:
        """Return the distance to the centroids, and move these to the batch."""
        self._batches += 1
        loss = inputs.logits.new_zeros(())
        if self._batches <= after:
            return loss
        assert inputs.labels is not None  # `needs` says so
        right = inputs.logits.detach().argmax(1) == inputs.labels
        labels = functional.one_hot(inputs.labels, inputs.logits.shape[1])
        chosen = labels * right[:, None]  # (B, K)
        there = (chosen.sum(0) > 1)[:, None]  # (K, 1)
        names = [name for name in inputs.targets.mean if name in inputs.taps]
        for name in names[-max(1, math.ceil(deep * len(names))) :]:
            mean, deviation = class_moments(inputs.taps[name], chosen.float())
            self._begin(name, mean.detach(), deviation.detach(), there)
            known = self.mean[name]
            if noise:
                e = torch.randn(known.shape, generator=inputs.generator).to(known)
                known = known + noise * self.deviation[name] * e
            off = (mean - known).square() + (deviation - self.deviation[name]).square()
            loss = loss + (off * there).sum()
            self._move(name, mean.detach(), deviation.detach(), rate * there)
        return loss

    def _begin(self, name: str, mean: Tensor, deviation: Tensor, there: Tensor) -> None:
        """Begin the centroids of classes that are seen for the first time."""
        if name not in self.mean:
            self.mean[name] = torch.zeros_like(mean)
            self.deviation[name] = torch.zeros_like(deviation)
            self.known[name] = torch.zeros_like(there)
        new = there & ~self.known[name]
        self.mean[name] = torch.where(new, mean, self.mean[name])
        self.deviation[name] = torch.where(new, deviation, self.deviation[name])
        self.known[name] = self.known[name] | new

    def _move(self, name: str, mean: Tensor, deviation: Tensor, weight: Tensor) -> None:
        self.mean[name] = torch.lerp(self.mean[name], mean, weight)
        self.deviation[name] = torch.lerp(self.deviation[name], deviation, weight)


def class_moments(value: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation per class and channel, (K, C) each, of a value (B, C, ...).

    `chosen` (B, K) is 1 where an image counts for a class.
    """
    per_image = value.flatten(2) if value.dim() > 2 else value[:, :, None]  # (B, C, S)
    first, second = per_image.mean(2), per_image.square().mean(2)  # (B, C)
    share = chosen / chosen.sum(0).clamp_min(1)  # (B, K)
    mean = share.T @ first  # (K, C)
    variance = share.T @ second - mean.square()
    return mean, variance.clamp_min(LEAST).sqrt()
