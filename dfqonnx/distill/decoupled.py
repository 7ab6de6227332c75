"""Decoupled knowledge distillation: what the target class gets, and how the rest share the rest.

    target  KL( (p_c, 1 - p_c)^t || (p_c, 1 - p_c)^s )       c the target class
    others  KL( q^t || q^s ),  q_k = p_k / (1 - p_c), k other than c
    loss    T^2 ( alpha target + beta others )               softmax at temperature T

In plain distillation `others` is weighted by 1 - p_c of the teacher, next to nothing where it is
confident.

Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022; LRQ trains its student so.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def decoupled_loss(
    student: Tensor,
    teacher: Tensor,
    classes: Tensor,
    *,
    temperature: float,
    target: float,
    others: float,
) -> Tensor:
    """Return the loss, mean over the batch.

    Args:
        student: logits (N, K).
        teacher: logits (N, K).
        classes: (N,) the target classes.
        temperature: T.
        target: alpha.
        others: beta.
    """
    s, t = (functional.log_softmax(z / temperature, 1) for z in (student, teacher))
    binary = _kl(_binary(s, classes), _binary(t, classes))
    return temperature**2 * (target * binary + others * _kl(_rest(s, classes), _rest(t, classes)))


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _binary(logs: Tensor, classes: Tensor) -> Tensor:
    """Return log (p_c, 1 - p_c), (N, 2)."""
    own = logs.gather(1, classes[:, None])
    return torch.cat([own, _others(logs, classes).logsumexp(1, keepdim=True)], 1)


def _rest(logs: Tensor, classes: Tensor) -> Tensor:
    """Return log q, (N, K - 1)."""
    return functional.log_softmax(_others(logs, classes), 1)


def _others(logs: Tensor, classes: Tensor) -> Tensor:
    n, k = logs.shape
    keep = torch.arange(k, device=logs.device) != classes[:, None]  # (N, K)
    return logs[keep].view(n, k - 1)
