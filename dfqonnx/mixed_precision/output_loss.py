"""How far a student's outputs are from its teacher's, and directions to look for it in.

    loss = mean over outputs with classes of KL(t || s)  +  mean over the others of
           sum (s - t)^2 / sum (t - mean t)^2

A small change d of one output costs, to second order,

    classes    1/2 E[d' (diag p - p p') d]       p = softmax t, the Fisher information of the output
    others     E[d' d] N / sum (t - mean t)^2    N images

Both are E[(v' d)^2] for a random v whose covariance is the matrix in between: v = (e_y - p) / sqrt
2 with a class y drawn from p, and random signs over the deviation. So one backward pass of v
measures a change anywhere in the network, see `second_order`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from dfqonnx.distill.losses import is_classification, kd_loss, normalized_error
from dfqonnx.evaluation.drop_estimate.noise_ratio import fixed_images_ratio
from dfqonnx.fakequant.student import Student

Outputs = tuple[Tensor, ...]
LEAST_POWER = 1e-30


def run_outputs(student: Student, x: Tensor) -> Outputs:
    """Return the training outputs for model inputs `x`, (B, ...) each."""
    first, taps = student(x)
    return (first, *(taps[name] for name in student.training_outputs[1:]))


def join_batches(batches: Sequence[Outputs]) -> Outputs:
    """Return the outputs of all images."""
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def measure_loss(student: Outputs, teacher: Outputs) -> float:
    """Return the loss of a student's outputs, those of all images."""
    classes, errors = [], []
    for s, t in zip(student, teacher, strict=True):
        if is_classification(t):
            classes.append(float(kd_loss(s.double(), t.double(), 1.0)))
        else:
            errors.append(float(normalized_error(s.contiguous(), t.contiguous())))
    return sum(found for part in (classes, errors) if part for found in [sum(part) / len(part)])


def measure_noise(student: Outputs, teacher: Outputs) -> float:
    """Return the noise over the signal, as the estimate of the drop reads it; else the loss."""
    if not is_classification(teacher[0]):
        return measure_loss(student, teacher)
    return fixed_images_ratio(teacher[0].cpu().numpy(), student[0].cpu().numpy())


def describe_unit(teacher: Outputs) -> str:
    """Return in words what a loss is."""
    kinds = [is_classification(output) for output in teacher]
    if all(kinds):
        return "KL divergence, nats"
    return "KL divergence and noise over signal" if any(kinds) else "noise over signal"


def draw_directions(
    batch: Outputs, powers: Sequence[float], images: int, generator: Generator
) -> Outputs:
    """Return a random v for every output of a batch, of the output's shape.

    `powers` are sum (t - mean t)^2 of every output over all `images`.
    """
    classes = sum(is_classification(t) for t in batch)
    found = []
    for t, power in zip(batch, powers, strict=True):
        if is_classification(t):
            p = torch.softmax(t.detach().cpu().double(), 1)
            y = torch.multinomial(p, 1, generator=generator)
            v = -p
            v.scatter_add_(1, y, torch.ones_like(y, dtype=v.dtype))
            scale = math.sqrt(0.5 / classes)
        else:
            v = torch.randint(0, 2, t.shape, generator=generator).double() * 2 - 1
            others = len(batch) - classes
            scale = math.sqrt(images / max(power, LEAST_POWER) / others)
        found.append((scale * v).to(t.dtype).to(t.device))
    return tuple(found)


def sum_powers(teacher: Outputs) -> tuple[float, ...]:
    """Return sum (t - mean t)^2 of every output."""
    return tuple(float((t.double() - t.double().mean()).square().sum()) for t in teacher)
