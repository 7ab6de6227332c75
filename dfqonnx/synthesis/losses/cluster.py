"""`cluster`: the statistics of deep layers per class, pulled to that class's centroid.

With m', v' mean and variance of a layer over the batch's images of class c that the teacher gets
right, and (m, v) the class's centroid in that layer:

    loss = mean over deep layers, classes and channels of  (m' - (m + e))^2 + (v' - v)^2
    every `period` batches  m <- (1 - rate) m + rate m',  v likewise
    e ~ N(0, (noise d)^2),  d the deviation of m over the classes,  drawn anew when m moves

In between, the target stands still. A centroid begins as the first (m', v') after `after` batches,
which is the generator's warm-up; until then the loss is 0. Deep are the layers from the middle on
(number (n + 1) // 2 - 2 of n, counted from 0: the last 12 of 21). Statistics are those that
BatchNormalization reads.

The authors' code, DiamondSheep/ClusterQ, says layers, rate, period, means, variances and weights.
As released, it compares the statistics of the whole batch with centroids that are the global ones,
and the gradient of its noise term, MSE(x, x + e), is 0; here classes are told apart, as the paper
says, and noise moves the target, by a share of what lies between classes.

Source: Gao et al., "ClusterQ: Semantic Feature Distribution Alignment for Data-Free Quantization",
arXiv 2205.00179.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss


@image_loss("cluster", needs=("statistics", "classes", "labels"))
class Cluster:
    """The loss with its centroids, by layer."""

    def __init__(self) -> None:
        self.mean: dict[str, Tensor] = {}  # (K, C)
        self.variance: dict[str, Tensor] = {}  # (K, C)
        self.known: dict[str, Tensor] = {}  # (K, 1), whether the class has a centroid
        self._noise: dict[str, Tensor] = {}  # (K, C), e
        self._batches = 0

    def save_state(self) -> dict[str, Tensor]:
        """Return the centroids, by what they hold and layer, and the number of batches."""
        kept = {"mean": self.mean, "variance": self.variance, "known": self.known}
        kept |= {"noise": self._noise}
        found = {f"{what}.{name}": v for what, by in kept.items() for name, v in by.items()}
        return {"batches": torch.tensor(self._batches), **found}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was."""
        self._batches = int(state["batches"])
        for head, own in (
            ("mean.", self.mean),
            ("variance.", self.variance),
            ("known.", self.known),
            ("noise.", self._noise),
        ):
            own.clear()
            own |= {n.removeprefix(head): v for n, v in state.items() if n.startswith(head)}

    def __call__(
        self,
        inputs: ImageLossInputs,
        *,
        rate: float = 0.2,
        period: float = 200.0,
        noise: float = 0.3,
        after: float = 0.0,
    ) -> Tensor:
        """Return the distance to the centroids; every `period` batches these move."""
        self._batches += 1
        if self._batches <= after:
            return inputs.logits.new_zeros(())
        assert inputs.labels is not None  # `needs` says so
        moves = (self._batches - after) % max(1.0, period) == 0
        right = inputs.logits.detach().argmax(1) == inputs.labels
        labels = functional.one_hot(inputs.labels, inputs.logits.shape[1])
        chosen = labels * right[:, None]  # (B, K)
        there = (chosen.sum(0) > 1)[:, None]  # (K, 1)
        names = [name for name in inputs.targets.mean if name in inputs.taps]
        found = []
        for name in deep_layers(names):
            by = inputs.targets.to_input[name]  # (C,)
            mean, variance = class_moments(inputs.taps[name], chosen.float())
            mean, variance = mean * by, variance * by.square()
            self._begin(name, mean.detach(), variance.detach(), there)
            target = self.mean[name] + noise * self._noise[name] * self._spread(name)
            off = (mean - target).square() + (variance - self.variance[name]).square()
            found.append((off.mean(1, keepdim=True) * there).sum() / there.sum().clamp_min(1))
            if moves:
                self._move(name, mean.detach(), variance.detach(), rate * there)
                self._draw(name, inputs)
        return torch.stack(found).mean()

    def _begin(self, name: str, mean: Tensor, variance: Tensor, there: Tensor) -> None:
        """Begin the centroids of classes that are seen for the first time."""
        if name not in self.mean:
            self.mean[name] = torch.zeros_like(mean)
            self.variance[name] = torch.zeros_like(variance)
            self.known[name] = torch.zeros_like(there)
            self._noise[name] = torch.zeros_like(mean)
        new = there & ~self.known[name]
        self.mean[name] = torch.where(new, mean, self.mean[name])
        self.variance[name] = torch.where(new, variance, self.variance[name])
        self.known[name] = self.known[name] | new

    def _move(self, name: str, mean: Tensor, variance: Tensor, weight: Tensor) -> None:
        self.mean[name] = torch.lerp(self.mean[name], mean, weight)
        self.variance[name] = torch.lerp(self.variance[name], variance, weight)

    def _draw(self, name: str, inputs: ImageLossInputs) -> None:
        """Draw e / (noise d) anew."""
        shape = self.mean[name].shape
        self._noise[name] = torch.randn(shape, generator=inputs.generator).to(self.mean[name])

    def _spread(self, name: str) -> Tensor:
        """Return the deviation of the known centroids over classes, (C,)."""
        known = self.known[name]  # (K, 1)
        count = known.sum().clamp_min(1)
        middle = (self.mean[name] * known).sum(0) / count
        return (((self.mean[name] - middle).square() * known).sum(0) / count).sqrt()


def deep_layers(names: list[str]) -> list[str]:
    """Return the layers from the middle on, of at least one."""
    return names[max(0, (len(names) + 1) // 2 - 2) :]


def class_moments(value: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance per class and channel, (K, C) each, of a value (B, C, ...).

    `chosen` (B, K) is 1 where an image counts for a class.
    """
    per_image = value.flatten(2) if value.dim() > 2 else value[:, :, None]  # (B, C, S)
    first, second = per_image.mean(2), per_image.square().mean(2)  # (B, C)
    share = chosen / chosen.sum(0).clamp_min(1)  # (B, K)
    mean = share.T @ first  # (K, C)
    return mean, (share.T @ second - mean.square()).clamp_min(0.0)
