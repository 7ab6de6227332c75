"""`adversarial`: images on which students disagree with the teacher.

    - mean over students s of  (1/B) sum_n KL( softmax(t_n / T) || softmax(s_n / T) )

The generator's half of  min over students, max over images.  Its gradient passes through both
networks to the images; neither network's own parameters are asked for one.

Sources: Li et al., "DFQF", ACML 2020; Choi et al., CVPR Workshops 2020 (T = 1 in both).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.synth.objective import Seen, image_loss


@image_loss("adversarial", needs=("students", "classes"))
def adversarial(seen: Seen, *, temperature: float = 1.0) -> Tensor:
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
