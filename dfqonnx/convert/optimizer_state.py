"""The state of an optimizer as named tensors, and back, exactly.

A tensor goes back with the strides of the parameter that it belongs to: fused optimizers compute
along memory, and another order would be another path.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def save_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors that an optimizer keeps of its parameters: `INDEX.NAME` -> value."""
    kept = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, state in kept.items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Set what `save_optimizer` returned for an optimizer of the same parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        index, _, kind = name.partition(".")
        parameter = parameters[int(index)]
        same_form = value.shape == parameter.shape and kind != "step"
        found.setdefault(int(index), {})[kind] = like(value, parameter) if same_form else value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": found, "param_groups": groups})


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a value on the device and with the strides of a parameter of its shape.

    Raises:
        ValueError: it has another shape.
    """
    if value.shape != parameter.shape:
        raise ValueError(f"{tuple(value.shape)} for a parameter {tuple(parameter.shape)}")
    return torch.empty_like(parameter.detach()).copy_(value)


def select(state: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `head`, by the rest of their names."""
    return {name.removeprefix(head): v for name, v in state.items() if name.startswith(head)}
