"""A check of a training on images that no generator drew: dead leaves.

A generator's held-out images are as odd as those trained on: a student can come nearer to its
teacher on all of them and diverge from it on photographs. Dead leaves come from elsewhere, and show
it: of 13 trained students of two ResNet-20 at W4A4, the divergence on 512 dead leaves rose in the
two that lost most labeled accuracy (0.47 and 0.26 points) and fell in all five that gained 0.1 or
more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.config.distillation import DistillationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves


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
            self._before = self._agreement(student, self._images)

    def rejects(self, student: Student) -> bool:
        """Return whether training took `student` away from its teacher."""
        if self._images is None:
            return False
        return self._before.better_than(self._agreement(student, self._images))

    def _agreement(self, student: Student, images: Tensor) -> Agreement:
        batches = self._pool.batches(images, self._batch_size)
        return measure_agreement(student, self._teacher, batches)
