"""The student's optimiser: Adam, or SGD with Nesterov momentum, as a recipe says.

Weights, biases and logarithmic steps are groups of their own. Steps have neither momentum nor decay
under SGD: DFQF trains its clips so.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dfqonnx.spec.distill import OptimiserSpec


def optimiser(
    parts: Mapping[str, list[torch.nn.Parameter]], spec: OptimiserSpec
) -> torch.optim.Optimizer:
    """Return the optimiser of a student's parameters, at peak rates.

    Args:
        parts: `weights`, `biases` and `steps`.
        spec: the recipe.
    """
    weight_rate, step_rate = spec.rates()
    rates = {"weights": weight_rate, "biases": weight_rate, "steps": step_rate}
    groups = [
        {
            "params": parts[kind],
            "lr": rate,
            "weight_decay": spec.decay if kind == "weights" else 0.0,
            **({} if spec.kind == "adam" else _momentum(0.0 if kind == "steps" else spec.momentum)),
        }
        for kind, rate in rates.items()
        if parts[kind]
    ]
    return torch.optim.Adam(groups, fused=True) if spec.kind == "adam" else torch.optim.SGD(groups)


def _momentum(momentum: float) -> dict[str, float | bool]:
    return {"momentum": momentum, "nesterov": momentum > 0}
