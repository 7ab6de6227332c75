"""Muon: steps along the nearest orthogonal matrix of the momentum, for weights that are matrices.

With gradient G (O, n), one row an output channel, momentum M and b = `MOMENTUM`:

    M = b M + G         U = orthogonal(G + b M)        W -= lr sqrt(max(m, n)) U

where orthogonal(X) replaces the singular values of X by 1, nearly: X / |X| is put five times into
a X + (b X X' + c (X X')^2) X, which leaves values of 0.7 to 1.2. An orthogonal matrix has values of
root mean square 1 / sqrt(max(m, n)), so `lr` is what a weight moves in a step, whatever the shape.

Adam scales each weight alone: with images of a few kinds and a few hundred steps most of a step
goes along the few directions that all gradients share. Here all directions of a layer move alike.
(Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the factor is that
of Liu et al., "Muon is scalable for LLM training", 2025.) `torch.optim.Muon` computes in bfloat16,
which for the small matrices of Conv takes ten times as long on a processor, and takes no tensors of
four axes.

Rows are orthogonalized in groups of m = `MOST_ROWS`, so that the cost per weight stays bounded: for
ResNet-20 it is 3 % of a step. Matrices of equal shape pass together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
MOST_ROWS = 64
ITERATIONS = 5
FIRST, THIRD, FIFTH = 3.4445, -4.7750, 2.0315  # coefficients of X, of its third and fifth power
TINY = 1e-12


def is_matrix(weight: Tensor) -> bool:
    """Return whether a weight couples channels; a depthwise one, (O, 1, kH, kW), does not."""
    return weight.dim() > 1 and weight.shape[0] > 1 and weight.shape[1] > 1


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two axes and more; the first axis counts rows."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; momentum of one without stays as it is."""
        assert closure is None, "a step takes gradients as they are"
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            decay = group["weight_decay"]
            updates = orthogonalize([self._look_ahead(p, decay).flatten(1) for p in moved])
            for parameter, update in zip(moved, updates, strict=True):
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"])

    def _look_ahead(self, parameter: nn.Parameter, decay: float) -> Tensor:
        """Return the gradient with Nesterov's momentum, contiguous, of the parameter's shape."""
        assert parameter.grad is not None
        gradient = parameter.grad.add(parameter, alpha=decay) if decay else parameter.grad
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        return gradient.add(momentum, alpha=MOMENTUM).contiguous()


def orthogonalize(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return matrices (O, n) with rows orthogonal in groups, their root mean square near 1."""
    parts = [part for matrix in matrices for part in torch.split(matrix, MOST_ROWS)]
    found: list[Tensor] = [matrix.new_empty(0) for matrix in parts]
    shapes: dict[torch.Size, list[int]] = {}
    for index, part in enumerate(parts):
        shapes.setdefault(part.shape, []).append(index)
    for places in shapes.values():
        together = _orthogonalize(torch.stack([parts[i] for i in places]))  # (B, m, n)
        together *= max(together.shape[1:]) ** 0.5
        for place, matrix in zip(places, together, strict=True):
            found[place] = matrix
    rest = iter(found)
    return [torch.cat([next(rest) for _ in torch.split(matrix, MOST_ROWS)]) for matrix in matrices]


def _orthogonalize(x: Tensor) -> Tensor:
    """Return matrices (B, m, n) with singular values near 1."""
    if x.shape[1] > x.shape[2]:
        return _orthogonalize(x.mT).mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + TINY)
    for _ in range(ITERATIONS):
        square = x @ x.mT  # (B, m, m)
        x = torch.baddbmm(
            x, torch.baddbmm(square, square, square, beta=THIRD, alpha=FIFTH), x, beta=FIRST
        )
    return x
