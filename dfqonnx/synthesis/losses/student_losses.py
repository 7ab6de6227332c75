"""Losses that are low where students disagree with the teacher.

p is the teacher's and q the student's distribution at temperature T; several students: the mean.

    adversarial   - mean KL(p || q)
    competition   1 - JS(p, q),   JS = KL(m || p) / 2 + KL(m || q) / 2,   m = (p + q) / 2

`adversarial` is the generator's half of  min over students, max over images.  The gradient passes
through both networks to the images; neither network's own parameters are asked for one.
`competition` keeps each probability in 0.01 .. 0.99, and JS, whose divergences are taken from m as
the authors' code NVlabs/DeepInversion does, in 0 .. 1.

Sources: Li et al., "DFQF", ACML 2020, and Choi et al., CVPR Workshops 2020 (adversarial; T = 1 in
both); Yin et al., "Dreaming to Distill" (Adaptive DeepInversion), CVPR 2020 (competition; T = 3).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss


@image_loss("adversarial", needs=("students", "classes"))
def adversarial(inputs: ImageLossInputs, *, temperature: float = 1.0) -> Tensor:
    """Return the negative mean divergence."""
    teacher = functional.log_softmax(inputs.logits / temperature, 1)
    found = [
        functional.kl_div(
            functional.log_softmax(student / temperature, 1),
            teacher,
            reduction="batchmean",
            log_target=True,
        )
        for student in inputs.students
    ]
    return -torch.stack(found).mean()


LEAST = 0.01


@image_loss("competition", needs=("students",))
def competition(inputs: ImageLossInputs, *, temperature: float = 3.0) -> Tensor:
    """Return 1 - JS, mean over images and students."""
    teacher = _probabilities(inputs.logits, temperature)
    parts = [1.0 - _divergence(teacher, _probabilities(s, temperature)) for s in inputs.students]
    return torch.stack(parts).mean()


def _probabilities(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(1)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return the divergence of the mean from both, mean over rows, at most 1."""
    p, q, middle = (each.clamp(LEAST, 1 - LEAST) for each in (p, q, (p + q) / 2))
    halves = middle * ((middle / p).log() + (middle / q).log())
    return (0.5 * halves.sum(1).mean()).clamp(0.0, 1.0)
