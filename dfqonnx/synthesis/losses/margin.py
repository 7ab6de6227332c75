"""`margin`: features of a class are kept apart from that class's center.

With f_n what the last layer reads of image n, of class y, u_n = f_n / |f_n|:

    center    c_y <- (1 - rate) c_y + rate (mean of u_n)       over the batch's images of class y
    theta_n   the angle between u_n and c_y
    usual     t_y <- (1 - rate) t_y + rate (mean of theta_n)
    loss      mean max(0, t_y + angle - theta_n)

Center and usual angle are constants for the gradient, and follow after the batch; the first batch
begins them. The class loss draws features of a class together. The margin opposes it: an image is
pushed out of its class's center until it stands `angle` (radians) beyond where images of that class
are by now, so the term acts in every network, however wide its angles are: a bound of fixed size
does not (no image of a ResNet-20 comes nearer than 0.66 to its class's row in the last layer).

LRQ's abstract says that an adversarial margin enlarges the angle between a feature and its class
center. Its formula was not found: this one is ours.

Source: "Long-Range Zero-Shot Generative Deep Network Quantization", Neural Networks 166, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss

NEAREST = 1 - 1e-6  # of a cosine: the angle's slope is infinite at 1


@image_loss("margin", needs=("features", "classes", "labels"))
class Margin:
    """The loss with its centers."""

    def __init__(self) -> None:
        self.center: Tensor | None = None  # (K, D)
        self.usual: Tensor | None = None  # (K,) radians
        self.known: Tensor | None = None  # (K,) whether the class has been seen

    def save_state(self) -> dict[str, Tensor]:
        """Return the centers and usual angles; nothing before the first batch."""
        found = {"center": self.center, "usual": self.usual, "known": self.known}
        return {name: value for name, value in found.items() if value is not None}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was."""
        self.center, self.usual = state.get("center"), state.get("usual")
        self.known = state.get("known")

    def __call__(self, inputs: ImageLossInputs, *, angle: float = 0.2, rate: float = 0.1) -> Tensor:
        """Return the mean hinge, and let centers follow the batch."""
        assert inputs.features is not None  # `needs` says so
        assert inputs.labels is not None
        unit = functional.normalize(inputs.features, dim=1)  # (B, D)
        chosen = functional.one_hot(inputs.labels, inputs.logits.shape[1]).to(unit)  # (B, K)
        share = (chosen / chosen.sum(0).clamp_min(1)).T  # (K, B)
        there = chosen.sum(0) > 0  # (K,)
        mean = share @ unit.detach()  # (K, D)
        if self.center is None or self.usual is None or self.known is None:
            self.center, self.known = torch.zeros_like(mean), torch.zeros_like(there)
            self.usual = mean.new_zeros(len(mean))
        new = there & ~self.known
        self.center = torch.where(new[:, None], mean, self.center)
        theta = self._angles(unit, self.center[inputs.labels])  # (B,)
        angles = share @ theta.detach()  # (K,)
        self.usual = torch.where(new, angles, self.usual)
        loss = (self.usual[inputs.labels] + angle - theta).clamp_min(0.0).mean()
        follows = rate * there
        self.center = torch.lerp(self.center, mean, follows[:, None])
        self.usual = torch.lerp(self.usual, angles, follows)
        self.known = self.known | there
        return loss

    @staticmethod
    def _angles(unit: Tensor, centers: Tensor) -> Tensor:
        cosine = functional.cosine_similarity(unit, centers, dim=1)
        return cosine.clamp(-NEAREST, NEAREST).acos()
