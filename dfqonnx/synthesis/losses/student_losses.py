"""`adversarial`: images on which students disagree with the teacher.

    - mean over students s of  (1/B) sum_n KL( softmax(t_n / T) || softmax(s_n / T) )

The generator's half of  min over students, max over images.  Its gradient passes through both
networks to the images; neither network's own parameters are asked for one.

Sources: Li et al., "DFQF", ACML 2020; Choi et al., CVPR Workshops 2020 (T = 1 in both).

`competition`: images on which the student does not yet say what the teacher says.

    1 - JS(p, q) at temperature T,   JS = KL(p || m) / 2 + KL(q || m) / 2,   m = (p + q) / 2

p the teacher's, q the student's distribution, each probability held in 0.01 .. 0.99; several
students: the mean. JS is at most ln 2. Lowering it drives the two apart.

Source: Yin et al., "Dreaming to Distill" (Adaptive DeepInversion), CVPR 2020; T = 3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import ImageLossInputs, image_loss


@image_loss("adversarial", needs=("students", "classes"))
def adversarial(seen: ImageLossInputs, *, temperature: float = 1.0) -> Tensor:
    """Return the negative mean divergence."""
    teacher = functional.log_softmax(seen.logits / temperature, 1)
    found = [
        functional.kl_div(
            functional.log_softmax(student / temperature, 1),
            teacher,
            reduction="batchmean",
            log_target=True,
        )
        for student in seen.students
    ]
    return -torch.stack(found).mean()


LEAST = 0.01


@image_loss("competition", needs=("students",))
def competition(seen: ImageLossInputs, *, temperature: float = 3.0) -> Tensor:
    """Return 1 - JS, mean over images and students."""
    teacher = _held(seen.logits, temperature)
    parts = [1.0 - _divergence(teacher, _held(s, temperature)) for s in seen.students]
    return torch.stack(parts).mean()


def _held(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(1).clamp(LEAST, 1 - LEAST)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence, mean over rows."""
    middle = (p + q) / 2
    halves = p * (p / middle).log() + q * (q / middle).log()
    return 0.5 * halves.sum(1).mean()
