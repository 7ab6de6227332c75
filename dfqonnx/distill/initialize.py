"""The student before its first training step: steps by search, weights by reconstruction.

The damping of the reconstruction is chosen by divergence from the teacher on held-out synthetic
images; the plain rounding is one of the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.program import Program
from dfqonnx.core.progress import Progress
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.data_free import apply_data_free_init
from dfqonnx.ptq.gptq import gptq


def initialize(  # noqa: PLR0913 (one keyword for each thing that decides the outcome)
    student: Student,
    teacher: Program,
    target: ProgramModule,
    pool: ImagePool,
    *,
    spec: DistillationConfig,
    equalization: EqualizationConfig,
    reconstructed: int,
    seed: int,
    expected: Mapping[str, ActivationMoments] | None = None,
    progress: Progress | None = None,
) -> Agreement:
    """Initialize `student` in place and return its held-out agreement.

    Args:
        student: the quantized copy.
        teacher: the float program.
        target: the same as a module.
        pool: synthetic images.
        spec: the recipe.
        equalization: what is done before, without looking at any image.
        reconstructed: images that reconstruction looks at, in one go.
        seed: of the positions that reconstruction looks at.
        expected: what values are on the training data, where it is known and wanted.
        progress: told what was done without images.
    """
    chosen = pool.train[: spec.calibration_images]
    student.initialize(pool.batches(chosen, spec.batch_size))
    done = apply_data_free_init(
        student,
        teacher,
        pool.batches(chosen, spec.batch_size),
        spec=equalization,
        expected=expected or {},
    )
    if done and progress is not None:
        progress.note(done)
    best = measure_agreement(student, target, pool.batches(pool.held, spec.batch_size))
    plain = kept = student.save_state()
    for damping in spec.gptq_damping:
        student.load_state(plain)
        generator = torch.Generator().manual_seed(seed)
        x = pool.tensor(chosen[:reconstructed])
        gptq(student, teacher, x, generator=generator, damping=damping)
        found = measure_agreement(student, target, pool.batches(pool.held, spec.batch_size))
        if found.better_than(best):
            best, kept = found, student.save_state()
    student.load_state(kept)
    return best
