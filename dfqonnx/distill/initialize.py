"""The student before its first training step: scales by search, weights by GPTQ.

The damping of GPTQ is chosen by the agreement with the teacher on held-out synthetic images; plain
rounding is one of the candidates.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from dfqonnx.config.distillation import DistillationConfig, EqualizationConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.context import RunContext
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.batch_size import BatchSizes
from dfqonnx.distill.image_pool import ImagePool
from dfqonnx.equalization.expected_moments import ActivationMoments
from dfqonnx.fakequant.student import Student
from dfqonnx.ptq.data_free import apply_data_free_init
from dfqonnx.ptq.gptq import gptq
from dfqonnx.synthesis.range_probes import make_range_probes

BUDGET_SHARE = 0.4  # of the time for initialization and training that candidates for GPTQ may take


def initialize(
    student: Student,
    teacher: ProgramModule,
    pool: ImagePool,
    *,
    config: DistillationConfig,
    equalization: EqualizationConfig,
    moments: Mapping[str, ActivationMoments],
    sizes: BatchSizes,
    context: RunContext,
) -> Agreement:
    """Initialize `student` in place and return its held-out agreement.

    `moments` are those of values on the training data, where they are known and asked for.
    """
    started = time.perf_counter()
    dampings = config.gptq_damping
    context.progress.start("initialize", 1 + len(dampings))
    pixels = pool.fitting[: config.calibration_images]
    probes = make_range_probes(
        teacher.program,
        pool.inputs,
        pixels,
        names=[quantizer.spec.tensor for quantizer in student.quantizers()],
        batch=sizes.training,
        seed=context.seed,
    )
    student.initialize(
        pool.batches(pixels, sizes.calibration),
        probes=probes if config.probe_probability else (),
        probability=config.probe_probability,
    )
    done = apply_data_free_init(
        student,
        teacher.program,
        pool.batches(pixels, sizes.calibration),
        spec=equalization,
        expected=moments,
    )
    if done:
        context.progress.note(done)
    best = measure_agreement(student, teacher, pool.choosing_batches(sizes.calibration))
    context.progress.advance()
    rounded = kept = student.save_state()
    x, slowest = pool.tensor(pixels[: sizes.gptq]), 0.0  # slowest: of the candidates so far
    for index, damping in enumerate(dampings):
        begun = time.perf_counter()
        if index and not _has_time(context, begun - started + slowest):
            break
        student.load_state(rounded)
        _refit(student, teacher, x, damping=damping, seed=context.seed)
        found = measure_agreement(student, teacher, pool.choosing_batches(sizes.calibration))
        if found.better_than(best):
            best, kept = found, student.save_state()
        slowest = max(slowest, time.perf_counter() - begun)
        context.progress.advance()
    student.load_state(kept)
    if len(pool.unlike):
        best = measure_agreement(student, teacher, pool.held_out_batches(sizes.calibration))
    return best


def _refit(
    student: Student, teacher: ProgramModule, x: torch.Tensor, *, damping: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gptq(student, teacher.program, x, generator=generator, damping=damping)


def _has_time(context: RunContext, seconds: float) -> bool:
    """Tell whether initialization may take so many seconds."""
    budget = context.budget_seconds
    return budget is None or context.ranks.agree(seconds <= BUDGET_SHARE * budget)
