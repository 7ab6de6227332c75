"""A check of a training on images that no generator drew: dead leaves.

A generator's held-out images are as odd as those trained on: a student can come nearer to its
teacher on all of them and diverge from it on photographs. Dead leaves come from elsewhere, and show
it. They are few, so what they show has noise of its own. With d_n the distance of image n after
training, minus that before (KL of its classes, and the error of other outputs), training is
rejected only where the mean of d is above what chance makes of it:

    mean d > z sd(d) / sqrt(N),    z = 1.645: one training in twenty that changes nothing

Of five trainings on generated images that were held against photographs, the sign of the mean alone
was wrong in three.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.distill.losses import is_classification
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves

Z = 1.645  # of the normal distribution: 5 % lie above


class DivergenceGuard:
    """Dead leaves, and how far the untrained student is from its teacher on them.

    Images unlike those of the run join them where the pool has some. They have the size of the
    pool's images; a model that reads no images has no guard.
    """

    def __init__(
        self,
        student: Student,
        teacher: ProgramModule,
        pool: ImagePool,
        *,
        config: DistillationConfig,
        seed: int,
    ) -> None:
        self._teacher, self._pool, self._batch_size = teacher, pool, config.batch_size
        self._images: Tensor | None = None
        if config.guard_images and pool.holds_images:
            _, height, width, channels = pool.train.shape
            generator = torch.Generator().manual_seed(seed)
            shape = (height, width, channels)
            leaves = sample_dead_leaves(config.guard_images, shape, generator)
            self._images = torch.cat([leaves.to(pool.train.device), pool.unlike])  # (N, H, W, C)
            self._before = self._distances(student, self._images)

    def rejects(self, student: Student) -> bool:
        """Return whether training took `student` away from its teacher."""
        if self._images is None:
            return False
        further = self._distances(student, self._images) - self._before  # (N,)
        if not bool(torch.isfinite(further).all()):
            return True
        noise = further.std() / len(further) ** 0.5
        return bool(further.mean() > Z * noise) and bool(further.mean() > 0)

    def _distances(self, student: Student, images: Tensor) -> Tensor:
        batches = self._pool.batches(images, self._batch_size)
        return image_distances(student, self._teacher, batches)


@torch.no_grad()
def image_distances(student: Student, teacher: ProgramModule, inputs: Iterable[Tensor]) -> Tensor:
    """Return every image's distance between the networks, (N,) in double precision.

    Its mean is the distance of `measure_agreement`: KL(teacher || student), mean over outputs that
    hold classes, plus the error of the others over the power of what varies in the teacher's.
    """
    names = student.training_outputs[1:]
    divergences: list[list[Tensor]] = [[] for _ in range(1 + len(names))]
    errors: list[list[Tensor]] = [[] for _ in range(1 + len(names))]
    values: list[list[Tensor]] = [[] for _ in range(1 + len(names))]
    for x in inputs:
        (s, s_features), (t, t_features) = student(x), teacher(x)
        pairs = [(s, t), *((s_features[name], t_features[name]) for name in names)]
        for place, (own, wanted) in enumerate(pairs):
            own, wanted = own.double(), wanted.double()
            if is_classification(wanted):
                logs = wanted.log_softmax(1)
                each = (logs.exp() * (logs - own.log_softmax(1))).sum(1)
                divergences[place].append(each)
            else:
                errors[place].append((own - wanted).square().flatten(1).sum(1))
                values[place].append(wanted.flatten(1))
    by_class = [torch.cat(parts) for parts in divergences if parts]
    by_value = [
        torch.cat(error) / _power(torch.cat(value))
        for error, value in zip(errors, values, strict=True)
        if error
    ]
    return sum(
        (torch.stack(kind).mean(0) for kind in (by_class, by_value) if kind),
        torch.zeros((), dtype=torch.float64),
    )


def _power(values: Tensor) -> Tensor:
    """Return the power of what varies in (N, V), for one image."""
    squares = values.square().sum()
    power = squares - values.sum().square() / values.numel()
    return power.clamp_min(1e-6 * float(squares)).clamp_min(1e-30) / len(values)
