"""A second opinion on a training: dead leaves, which no generator drew.

A generator's held-out images are as odd as those trained on: a student can come nearer to its
teacher on all of them and leave it on photographs. Painted images are from elsewhere, and show it:
of 13 trained students of two ResNet-20 at W4A4, the divergence on 512 leaves rose in the two that
lost most labeled accuracy (0.47 and 0.26 points) and fell in all five that gained 0.1 or more.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dfqonnx.convert.module import ProgramModule
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.sources.dead_leaves import sample_dead_leaves


class DivergenceGuard:
    """Painted images and how far the untrained student is from its teacher on them.

    Args:
        student: as it is before its first step.
        teacher: the float network.
        pool: tells size and form of the images; a model that reads none has no witness.
        count: images; 0 asks none.
        batch: images of one pass.
        seed: of the leaves.
    """

    def __init__(
        self,
        student: Student,
        teacher: ProgramModule,
        pool: ImagePool,
        *,
        count: int,
        batch: int,
        seed: int,
    ) -> None:
        self._teacher, self._pool, self._batch = teacher, pool, batch
        self._images: Tensor | None = None
        if count and pool.movable:
            _, height, width, channels = pool.train.shape
            generator = torch.Generator().manual_seed(seed)
            images = sample_dead_leaves(count, (height, width, channels), generator)
            self._images = images.to(pool.train.device)  # (count, H, W, C)
            self._before = self._agreement(student)

    def objects(self, student: Student) -> bool:
        """Tell whether training took `student` away from its teacher."""
        return self._images is not None and self._before.better_than(self._agreement(student))

    def _agreement(self, student: Student) -> Agreement:
        return measure_agreement(student, self._teacher, self._inputs())

    def _inputs(self) -> Iterator[Tensor]:
        assert self._images is not None
        return self._pool.batches(self._images, self._batch)
