"""The mean of the parameters over the last part of training (tail averaging).

mean_k = mean_{k-1} + (p_k - mean_{k-1}) / k. Steps are averaged as logarithms: a geometric mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class TailMean:
    """A running mean of parameters."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._mean: list[Tensor] = []
        self.count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the parameters as they are now into the mean."""
        self.count += 1
        if not self._mean:
            self._mean = [p.detach().clone() for p in self._parameters]
        else:
            torch._foreach_lerp_(self._mean, self._parameters, 1.0 / self.count)

    @torch.no_grad()
    def apply(self) -> None:
        """Set the parameters to their mean; without one they stay."""
        for parameter, mean in zip(self._parameters, self._mean, strict=bool(self._mean)):
            parameter.copy_(mean)
