"""A check of a training on images that it did not see.

A generator's held-out images are as odd as those trained on: a student can come nearer to its
teacher on all of them and diverge from it on photographs. Dead leaves come from elsewhere, and show
it. The images of a check are few, so what they show has noise of its own. With d_n the distance of
image n after training, minus that before (KL of its classes, and the error of other outputs),
training is rejected only where the mean of d is above what chance makes of it:

    mean d > z sd(d) / sqrt(N),    z = 1.645: one training in twenty that changes nothing

Of five trainings on generated images that were held against photographs, the sign of the mean on
dead leaves was wrong in three. On 256 held-out images a training of 150 steps (ResNet-20, W4A4) was
told to be worse by 1 %, which was nearer to its teacher by 31 and 13 % on 1,536 optimized and
procedural images of another seed: GPTQ's damping had been chosen on the former.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.distill.losses import is_classification
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves

Z = 1.645  # of the normal distribution: 5 % lie above


class DivergenceGuard:
    """Images (N, H, W, C), and how far the untrained student is from its teacher on each."""

    def __init__(
        self, student: Student, teacher: ProgramModule, pool: ImagePool, *, images: Tensor,
        batch_size: int,
    ) -> None:  # fmt: skip
        self._teacher, self._pool, self._batch_size = teacher, pool, batch_size
        self._images = images
        self._before = self._distances(student) if len(images) else torch.zeros(0)

    def rejects(self, student: Student) -> bool:
        """Return whether training took `student` away from its teacher."""
        if not len(self._images):
            return False
        further = self._distances(student) - self._before  # (N,)
        if not bool(torch.isfinite(further).all()):
            return True
        noise = further.std() / len(further) ** 0.5
        return bool(further.mean() > Z * noise) and bool(further.mean() > 0)

    def _distances(self, student: Student) -> Tensor:
        batches = self._pool.batches(self._images, self._batch_size)
        return image_distances(student, self._teacher, batches)


def paint_guard_images(pool: ImagePool, count: int, seed: int) -> Tensor:
    """Return dead leaves (N, H, W, C), with images unlike those of the run where there are some.

    They have the size of the pool's images. None are painted for a model that reads no images, or
    where `count` is 0.
    """
    if not count or not pool.holds_images:
        return pool.train[:0]
    _, height, width, channels = pool.train.shape
    generator = torch.Generator().manual_seed(seed)
    leaves = sample_dead_leaves(count, (height, width, channels), generator)
    return torch.cat([leaves.to(pool.train.device), pool.unlike])


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
